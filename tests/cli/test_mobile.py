"""Mobile targets from the command line: a translator on ExecuTorch, and what each kind of file and request lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

Command = Callable[..., Any]

ENGINES = {"executorch": "executorch", "litert": "ai_edge_litert", "ort-mobile": "onnxruntime"}
pytestmark = pytest.mark.skipif(
    not all(find_spec(package) for package in ENGINES.values()),
    reason="not all engines of phones are installed; pip install 'edgevit[executorch,litert,onnxruntime]'",
)


def rungs(bundle: Path) -> dict[str, Any]:
    report = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    return {rung["name"]: rung for rung in report["parity"]["rungs"]}


# ---------------------------------------------------------------------------------------------- translation


TRANSLATOR = """
model = "zoo:phrases-transformer"
targets = ["executorch:float32"]
options."executorch:float32" = { batch = "1" }
evaluation.samples = 64
parity.layers = 0
bench.enabled = false
"""


@pytest.fixture(scope="module")
def phrases(once: Callable[..., Path], edgevit: Command) -> Path:
    """`zoo:phrases-transformer` for ExecuTorch, one phrase at a time; exported once, not to be changed."""

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(TRANSLATOR)
        finished = edgevit("export", "zoo:phrases-transformer", place / "out", "--recipe", place / "recipe.toml")
        assert finished.status == 0, finished.err

    return once("phrases-executorch", make) / "out"


def test_executorch_writes_what_torch_writes_token_for_token(phrases: Path) -> None:
    found = rungs(phrases)["executorch-float32"]
    assert (found["agreement"], found["tokens"]["agreement"]) == (100.0, 100.0)
    assert found["tokens"]["tokens"] > 500 and found["closeness"]["sqnr_db"] > 80
    for part in ("encoder", "decoder"):
        files = {path.name for path in (phrases / "executorch-float32" / part).iterdir()}
        assert files == {"model.pte", "delegation.json"}


def test_the_manifest_says_of_both_parts_what_fell_back_and_why(phrases: Path) -> None:
    (build,) = json.loads((phrases / "manifest.json").read_text(encoding="utf-8"))["builds"]
    for part in ("encoder", "decoder"):
        assert f"{part}: 100.0 % of multiply-accumulates" in build["options"]["delegated"]
        assert f"{part}: " in build["options"]["fell_back"]
    said = "embedding (no kernel of the delegate takes it)"
    assert build["options"]["fell_back"].count(said) == 2
    assert "left to other kernels" in (phrases / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [(), ("--beams", 4)])
def test_executorch_translates(phrases: Path, inside: Command, options: tuple[object, ...]) -> None:
    done = inside("run", phrases, "am Dienstag", "am Dienstag, dem 3. März", *options)
    assert done.status == 0, done.err
    first, second = done.out.splitlines()
    assert "Tuesday" in first and second.endswith(": on Tuesday, March 3")


def test_its_bundle_is_verified_and_compared_again(phrases: Path, inside: Command) -> None:
    done = inside("verify", phrases, "--json")
    assert done.status == 0, done.err
    assert [check["verdict"] for check in json.loads(done.out)["builds"]] == ["passed"]
    done = inside("parity", phrases, "--json")
    assert json.loads(done.out)["rungs"][0]["tokens"]["agreement"] == 100.0


def test_executorch_tags_as_the_checkpoints_own_code_does(
    inside: Command,
    huggingface: Callable[..., Any],
    huggingface_directory: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """A BERT in Hugging Face layout, whose masks are boolean."""
    import torch

    import edgevit

    (tmp_path / "short.txt").write_text("The cat slept.\nA storm is coming\nTwo trains were late, again\nwho won?\n")
    arguments = ("-t", "executorch:float32", "--no-bench", "--evaluation", tmp_path / "short.txt")
    done = inside("export", huggingface_directory("bert-tags"), tmp_path / "out", *arguments)
    assert done.status == 0, done.err
    ids = np.random.default_rng(1).integers(5, 300, (3, 9))
    mask = (np.arange(9)[None] < np.array([9, 4, 1])[:, None]).astype(np.int64)
    with torch.no_grad():
        theirs = huggingface("bert-tags")(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    with edgevit.load(tmp_path / "out") as model:
        (found,) = model.run({"input_ids": ids, "attention_mask": mask}).values()
    expected = theirs.logits.numpy()[mask == 1]
    np.testing.assert_allclose(found[mask == 1], expected, rtol=2e-3, atol=2e-4)
    assert (found[mask == 1].argmax(-1) == expected.argmax(-1)).all() and expected.std() > 0.01


# ------------------------------------------------------------------------------------------- files and requests


PICTURES = """
model = "zoo:digits-vit"
targets = ["executorch:float32", "litert:float32", "ort-mobile:float32"]
options."executorch:float32" = { batch = "2" }
options."litert:float32" = { batches = "2" }
evaluation.samples = 16
parity.layers = 0
bench.enabled = false
"""
FILES = {"executorch": "model.pte", "litert": "model.tflite", "ort-mobile": "model.ort"}
OTHER_VERSION = {
    "executorch": (b"ET12", b"ET11", "found schema ET11; it needs another version of executorch"),
    "litert": (b"TFL3", b"TFL2", "found 'TFL2'"),
    "ort-mobile": (b"\x01\x00\x00\x006\x00", b"\x01\x00\x00\x009\x00", "version [9] is not supported"),
}


@pytest.fixture(scope="module")
def pictures(once: Callable[..., Path], edgevit: Command) -> Path:
    """`zoo:digits-vit` for three engines of phones, two of them for pairs of pictures; take copies."""

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(PICTURES)
        finished = edgevit("export", "zoo:digits-vit", place / "out", "--recipe", place / "recipe.toml")
        assert finished.status == 0, finished.err

    return once("digits-mobile", make) / "out"


@pytest.fixture
def samples(repository: Path) -> list[Path]:
    return sorted((repository / "calibration" / "samples").glob("*.png"))


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("executorch", "expected a multiple of the batch 2 that executorch-float32 was built for, found 3 samples"),
        ("litert", "expected a multiple of a batch that litert-float32 was built for (2), found 3"),
    ],
)
def test_three_pictures_for_a_program_of_two(
    pictures: Path, samples: list[Path], inside: Command, engine: str, words: str
) -> None:
    done = inside("run", pictures, *samples[:3], "--target", engine)
    assert (done.status, done.out) == (2, "")
    assert words in done.complaint and "export it" in done.complaint
    done = inside("run", pictures, *samples[:2], "--target", engine, "--json")
    assert [one["result"]["label"] for one in json.loads(done.out)] == [path.name[0] for path in samples[:2]]


@pytest.mark.parametrize("engine", FILES)
def test_a_file_of_another_schema(
    pictures: Path, samples: list[Path], inside: Command, tmp_path: Path, engine: str
) -> None:
    """Listed as it is, as where another version made the bundle, so that it is the engine's own check that meets it."""
    from edgevit.bundle import describe_directory, read_manifest, write_manifest

    old, new, words = OTHER_VERSION[engine]
    out = shutil.copytree(pictures, tmp_path / "out")
    path = out / f"{engine}-float32" / FILES[engine]
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    manifest = read_manifest(out / "manifest.json")
    builds = [msgspec.structs.replace(one, files=describe_directory(out, out / one.name)) for one in manifest.builds]
    write_manifest(out, msgspec.structs.replace(manifest, builds=tuple(builds)))
    done = inside("run", out, *samples[:2], "--target", engine)
    assert (done.status, done.out) == (1, "")
    assert words in done.complaint and str(path) in done.complaint and "export it again" in done.complaint
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("engine", FILES)
def test_a_truncated_file(pictures: Path, samples: list[Path], inside: Command, tmp_path: Path, engine: str) -> None:
    path = shutil.copytree(pictures, tmp_path / "out") / f"{engine}-float32" / FILES[engine]
    path.write_bytes(path.read_bytes()[:-1000])
    done = inside("run", tmp_path / "out", *samples[:2], "--target", engine)
    assert (done.status, done.out) == (1, "")
    assert f"{engine}-float32/{FILES[engine]}" in done.complaint and "has the wrong size" in done.complaint


@pytest.mark.parametrize(
    ("target", "package"), [("executorch", "executorch"), ("litert", "ai_edge_litert"), ("coreml", "coremltools")]
)
def test_a_converter_that_is_not_installed(edgevit: Command, tmp_path: Path, target: str, package: str) -> None:
    done = edgevit("export", "zoo:digits-vit", tmp_path / "out", "-t", f"{target}:int8", without=(package,))
    assert done.status == 3 and not (tmp_path / "out").exists()
    assert f"pip install 'edgevit[{target}]'" in done.complaint


VOLUMETRIC = '''
import torch


class Volumetric(torch.nn.Module):
    """A convolution with three spatial dimensions, for which no delegate has a kernel."""

    def __init__(self):
        super().__init__()
        self.volume = torch.nn.Conv3d(1, 4, 3)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, pixel_values):
        return self.head(self.volume(pixel_values.unsqueeze(1)).mean((2, 3, 4)))


def factory():
    return Volumetric()
'''
VOLUMETRIC_RECIPE = """
model = "volumetric_for_tests:factory"
weights = "weights.safetensors"
labels = ["zero", "one"]
targets = ["executorch:float32"]
preprocess = { size = [16, 16], mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
evaluation.set = "images"
bench.enabled = false
"""


def test_an_operator_that_no_delegate_takes(
    inside: Command, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    (tmp_path / "volumetric_for_tests.py").write_text(VOLUMETRIC)
    (tmp_path / "recipe.toml").write_text(VOLUMETRIC_RECIPE)
    shutil.copytree(repository / "calibration" / "samples", tmp_path / "images")
    monkeypatch.syspath_prepend(tmp_path)
    import volumetric_for_tests  # type: ignore[import-not-found]

    save_file(volumetric_for_tests.factory().state_dict(), tmp_path / "weights.safetensors")
    arguments = ("volumetric_for_tests:factory", tmp_path / "out", "--recipe", tmp_path / "recipe.toml")
    done = inside("export", *arguments, "--min-delegated", 0.95)
    assert done.status == 1 and not (tmp_path / "out").exists()
    assert "expected at least 95 % of executorch:float32's multiply-accumulates in XNNPACK" in done.complaint
    assert "1 convolution (Only support 1D + 2D Conv)" in done.complaint
