"""Builds with the preprocessing inside, from the command line to an application's frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgevit
from edgevit.bundle import GOLDEN, open_bundle, read_golden
from edgevit.errors import InputError
from edgevit.types import PIXELS


def test_the_manifest_says_that_pixels_go_in(raw: Any) -> None:
    manifest = open_bundle(raw.bundle).manifest
    for build in manifest.builds:
        (given,) = build.signature.inputs
        assert (given.name, given.dtype, given.shape) == (PIXELS, "uint8", ("batch", "height", "width", 3))
        assert build.options["input"] == "pixels" and build.takes_pixels
        assert build.execution is not None
        assert not [layer.name for layer in build.execution.layers if layer.name.startswith("preprocess")]


def test_labels_are_those_of_the_ordinary_build(raw: Any, digits: Any) -> None:
    photos = sorted(raw.photos.rglob("*.png"))
    assert len({Image.open(path).size for path in photos}) == len(photos)
    for target in raw.builds[:2]:
        with edgevit.load(raw.bundle, target) as inside, edgevit.load(digits.bundle, target) as outside:
            found, expected = inside.predict(photos), outside.predict(photos)
            frames = [np.asarray(Image.open(path)) for path in photos]
            assert [one.label for one in found] == [one.label for one in expected]
            assert [one.label for one in found] == [path.parent.name for path in photos]
            assert max(abs(a.score - b.score) for a, b in zip(found, expected, strict=True)) < 0.02
            assert inside.predict(frames) == found


def test_parity_is_on_raw_images_and_shows_the_difference_of_the_preprocessing(
    raw: Any, inside: Callable[..., Any]
) -> None:
    report = json.loads((raw.bundle / "report.json").read_text())
    rungs = {rung["name"]: rung for rung in report["parity"]["rungs"]}
    count = len(list(raw.photos.rglob("*.png")))
    for text in raw.builds:
        rung = rungs[text.replace(":", "-")]
        assert rung["samples"] == count and rung["verdict"] != "failed"
        assert rung["preprocessing"]["images"] == count
        assert rung["preprocessing"]["largest"] < 1.01 and rung["preprocessing"]["mean"] < 0.01
    assert rungs["onnx float32"].get("preprocessing") is None
    assert "own preprocessing" in (raw.bundle / "report.html").read_text()
    again = inside("parity", raw.bundle, "--evaluation", raw.photos, "--json")
    assert again.status == 0
    for rung in json.loads(again.out)["rungs"]:
        assert rung["preprocessing"] == rungs[rung["name"]]["preprocessing"]
        assert rung["closeness"]["sqnr_db"] == pytest.approx(rungs[rung["name"]]["closeness"]["sqnr_db"], abs=0.5)


def test_processes_compare_raw_images_too(raw: Any) -> None:
    photos = str(raw.photos)
    shared = edgevit.parity(raw.bundle, photos, workers=edgevit.Workers(jobs=2))
    assert all(rung.preprocessing for rung in shared.rungs)
    assert shared == edgevit.parity(raw.bundle, photos)


def test_golden_inputs_are_pixels_and_verify(raw: Any, inside: Callable[..., Any], tmp_path: Path) -> None:
    inputs, outputs = read_golden(raw.bundle / GOLDEN)
    assert inputs[PIXELS].dtype == np.uint8 and inputs[PIXELS].shape[3] == 3
    assert len(inputs[PIXELS]) == len(inputs["pixel_values"]) == len(outputs["logits"])
    assert inside("verify", raw.bundle).status == 0
    turned = tmp_path / "turned"
    shutil.copytree(raw.bundle, turned)
    alone = sorted(turned.glob("*/preprocess/*"))
    assert {path.parent.parent.name for path in alone} == {text.replace(":", "-") for text in raw.builds}
    alone[0].write_bytes(b"damaged")
    assert inside("verify", turned).status == 1


def test_inspect_tells_them_apart(raw: Any, digits: Any, inside: Callable[..., Any]) -> None:
    assert inside("inspect", raw.bundle).out.count("takes raw pixels") == len(raw.builds)
    assert "takes raw pixels" not in inside("inspect", digits.bundle).out


def test_bench_says_which_images_it_gave(raw: Any, inside: Callable[..., Any]) -> None:
    quick = ["--seconds", "0.1", "--rounds", "1", "--cold-starts", "0", "--json", "--target", "onnxruntime:int8"]
    (entry,) = json.loads(inside("bench", raw.bundle, *quick, "--image-size", "48x64").out)["entries"]
    assert entry["image_size"] == [48, 64]


def test_bench_has_no_images_for_ordinary_builds(digits: Any, inside: Callable[..., Any]) -> None:
    finished = inside("bench", digits.bundle, "--image-size", "64")
    assert finished.status == 2
    assert "expected builds that take images of any size for image_size" in finished.complaint


BAD = {
    "float": (np.zeros((1, 9, 9, 3), np.float32), "pixels as a NumPy array of uint8, found float32"),
    "grey": (np.zeros((1, 9, 9, 1), np.uint8), r"\(batch, height, width, 3\).*found \(1, 9, 9, 1\)"),
    "channels first": (np.zeros((1, 3, 9, 9), np.uint8), r"found \(1, 3, 9, 9\), which has the channels first"),
    "empty": (np.zeros((1, 0, 9, 3), np.uint8), r"no empty dimension, found \(1, 0, 9, 3\)"),
    "no batch": (np.zeros((9, 9, 3), np.uint8), r"found \(9, 9, 3\)"),
    "enormous": (np.broadcast_to(np.zeros(3, np.uint8), (1, 9000, 10000, 3)), "found 9000 x 10000; scale the image"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_image_is_refused(raw: Any, what: str) -> None:
    pixels, complaint = BAD[what]
    with edgevit.load(raw.bundle, "onnxruntime:int8") as model, pytest.raises(InputError, match=complaint):
        model.run({PIXELS: pixels})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["zoo:kinds-transformer", "-t", "openvino"], "expected a model of images for openvino:float32"),
        (
            ["zoo:digits-vit", "-t", "litert"],
            "(openvino, onnxruntime, ort-mobile) for input=pixels, found litert:float32",
        ),
        (["zoo:digits-vit", "-t", "coreml:float16"], "or give input=image: pixels of the model's own size"),
        (["zoo:digits-vit", "-t", "openvino:bfloat16"], "expected float layers in float32 for openvino:bfloat16"),
    ],
)
def test_what_cannot_hold_the_preprocessing_says_so(
    arguments: list[str], complaint: str, inside: Callable[..., Any], tmp_path: Path
) -> None:
    finished = inside("export", arguments[0], tmp_path / "out", *arguments[1:], "--input", "pixels")
    assert finished.status in (2, 3) and not (tmp_path / "out").exists()
    assert complaint in finished.complaint
    unknown = inside("export", arguments[0], tmp_path / "out", "--input", "photos")
    assert unknown.status == 2 and "expected --input as array or pixels, found 'photos'" in unknown.complaint


def test_a_set_of_prepared_tensors_has_no_pixels(inside: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", pixel_values=np.zeros((4, 1, 8, 8), np.float32))
    finished = inside(
        "export", "zoo:digits-vit", tmp_path / "out", "-t", "openvino", "--input", "pixels",
        "--evaluation", tmp_path / "set.npz",
    )  # fmt: skip
    assert finished.status == 2
    assert "expected images to compare openvino:float32 with input=pixels on, found tensors" in finished.complaint
