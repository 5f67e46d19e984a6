"""Exports that differ: again, elsewhere, with a fixed batch, of another model, on images without labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgevit as package
from edgevit.errors import InputError

Command = Callable[..., Any]

FACTORY = """
import sys
import torch
from edgevit.zoo import ViTConfig
from edgevit.zoo.vit import initialize_vit

def vit(size=32):
    print("a factory may print what it likes")
    config = ViTConfig(image_size=(size, size), patch_size=8, dim=32, depth=2, heads=2, mlp_ratio=2.0, classes=4)
    module = initialize_vit(config, std=0.2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module

def larger():
    return vit(48)
"""

RECIPE = """
model = "{model}"
targets = ["openvino:float32", "openvino:int8", "onnxruntime:int8"]
labels = ["north", "east", "south", "west"]
parity.budget = 20
bench.enabled = false

[preprocess]
size = [32, 32]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def test_the_same_again_elsewhere_gives_the_same_bytes(edgevit: Command, digits: Any, tmp_path: Path) -> None:
    """From nothing, in another process, to a relative path with blanks and letters beyond ASCII."""
    out = "ein Ordner/übrig → 東"
    result = edgevit("export", "zoo:digits-vit", out, "--recipe", digits.recipe, cwd=tmp_path)
    assert result.status == 0, result.err
    assert f"bundle: {out}" in result.out
    again = tmp_path / out
    files = {path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file()}
    assert files == {path.relative_to(digits.bundle).as_posix() for path in digits.bundle.rglob("*") if path.is_file()}
    # Those three hold times; what they say of the builds does not change.
    timed = {"manifest.json", "report.json", "report.html"}
    different = {name for name in files - timed if (again / name).read_bytes() != (digits.bundle / name).read_bytes()}
    assert different == set()
    first, second = (json.loads((place / "manifest.json").read_bytes()) for place in (digits.bundle, again))
    untimed = [{**manifest, "files": []} for manifest in (first, second)]
    assert untimed[0] == untimed[1]
    with package.load(again) as model:
        assert model.predict(np.zeros((48, 48), np.uint8)).label in model.labels


def test_a_fixed_batch(edgevit: Command, inside: Command, digits: Any, tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--recipe", digits.recipe, "--batch-size", 2, "-t", "openvino:int8", "-t", "onnxruntime:float32"]
    result = edgevit("export", "zoo:digits-vit", out, *arguments, "--json")
    assert result.status == 0, result.err
    manifest = json.loads(result.out)["manifest"]
    assert manifest["signature"]["inputs"][0]["shape"] == [2, 1, 48, 48]
    images = sorted((repository / "calibration" / "samples").glob("*.png"))
    result = inside("run", out, *images[:4])
    assert [line.rpartition(": ")[2].split()[0] for line in result.out.splitlines()] == ["0", "3", "5", "7"]
    odd = inside("run", out, *images)
    assert (odd.status, odd.out) == (2, "")
    assert "expected a multiple of 2 inputs for this build of fixed batch 2, found 1" in odd.complaint
    assert inside("verify", out).status == 0
    assert inside("parity", out).status == 0
    with package.load(out, "openvino") as model:
        assert model.run({"pixel_values": np.zeros((2, 1, 48, 48), np.float32)})["logits"].shape == (2, 10)
        for shape in ((1, 1, 48, 48), (3, 1, 48, 48), (2, 3, 48, 48), (2, 1, 48)):
            with pytest.raises(InputError, match=r"of shape \(2, 1, 48, 48\)"):
                model.run({"pixel_values": np.zeros(shape, np.float32)})


@pytest.fixture(scope="session")
def factory(once: Callable[..., Path]) -> Path:
    def make(place: Path) -> None:
        (place / "compass.py").write_text(FACTORY)

    return once("factory", make)


def test_a_factory_on_photographs_without_labels(
    edgevit: Command, factory: Path, tmp_path: Path, repository: Path
) -> None:
    """Agreement stands in for accuracy and says so; what the factory prints stays out of the document."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model="compass:vit"))
    photos = repository / "calibration"
    sets = ["--calibration", photos / "photos.toml", "--evaluation", photos / "photos-evaluation.toml"]
    arguments = ["export", "compass:vit", tmp_path / "out", "--recipe", recipe, *sets]
    result = edgevit(*arguments, "--json", cwd=factory)
    assert result.status == 0, result.err
    assert "a factory may print what it likes" in result.err
    found = json.loads(result.out)
    assert found["manifest"]["labels"] == ["north", "east", "south", "west"]
    for rung in found["parity"]["rungs"]:
        assert not rung["labelled"] and rung["task"] is None and rung["agreement"] > 50
        assert rung["reason"].startswith("no labels, so the reference's answers stand in for the truth")
    assert found["parity"]["rungs"][0]["samples"] == 16


def test_another_image_size(edgevit: Command, inside: Command, factory: Path, tmp_path: Path, repository: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model="compass:larger"))
    photos = repository / "calibration" / "photos-evaluation.toml"
    arguments = ["--recipe", recipe, "--evaluation", photos, "-t", "onnxruntime:float32"]
    refused = edgevit("export", "compass:larger", tmp_path / "out", *arguments, cwd=factory)
    assert refused.status == 2
    assert "expected the module of compass:larger to take a batch of (3, 32, 32) images" in refused.complaint
    result = edgevit("export", "compass:larger", tmp_path / "out", *arguments, "--image-size", 48, cwd=factory)
    assert result.status == 0, result.err
    assert "× is" not in result.out and "agree" in result.out
    result = inside("inspect", tmp_path / "out")
    assert "input pixel_values: float32 (batch, 3, 48, 48)" in result.out
    assert "images: RGB 48x48" in result.out


def test_digits_in_another_resolution(edgevit: Command, tmp_path: Path, digits: Any) -> None:
    arguments = ["--recipe", digits.recipe, "--image-size", "32x64", "-t", "onnxruntime:float32", "--json"]
    result = edgevit("export", "zoo:digits-vit", tmp_path / "out", *arguments)
    assert result.status == 0, result.err
    assert "interpolated the position embedding from 3x3 to 2x4 patches" in result.err
    manifest = json.loads(result.out)["manifest"]
    assert manifest["signature"]["inputs"][0]["shape"] == ["batch", 1, 32, 64]
    assert manifest["preprocess"]["size"] == [32, 64]


def test_an_untrained_model_shows_no_accuracy_anywhere(edgevit: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("calibration", "evaluation"):
        for label in ("0", "1"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for index in range(3):
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    sets = ["--calibration", tmp_path / "calibration", "--evaluation", tmp_path / "evaluation"]
    arguments = ["--image-size", 32, "-t", "onnxruntime:float32", "--no-bench"]
    result = edgevit("export", "zoo:vit-tiny-224", tmp_path / "out", *sets, *arguments)
    assert result.status == 0, result.err
    assert "untrained: speed and size only" in result.out
    for word in ("top-1", "Δ", "accuracy"):
        assert word not in result.out.replace("nothing about accuracy", "")
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert all(rung["task"] is None and rung["agreement"] is None for rung in report["parity"]["rungs"])
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "untrained" in markdown and "top-1" not in markdown
