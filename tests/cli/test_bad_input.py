"""Whatever is handed in wrongly: one clear line, the right exit status, and nothing at OUT."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Command = Callable[..., Any]
QKV = "blocks.0.attn.qkv.weight"


@pytest.fixture
def refused(inside: Command, tmp_path: Path) -> Command:
    """(arguments …) -> what `edgevit export MODEL OUT ARGUMENTS` complains, after the checks that hold for all."""

    def export(*arguments: object, model: str = "zoo:digits-vit", status: int = 2) -> str:
        out = tmp_path / "out"
        result = inside("export", model, out, "--no-bench", *arguments)
        assert result.status == status, result.err
        assert result.out == ""
        assert result.err.splitlines()[-1] == result.complaint, "the complaint comes last"
        assert not out.exists()
        assert not list(tmp_path.rglob("manifest.json")), "and nothing that could be loaded lies beside it"
        return result.complaint

    return export


# -------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="session")
def checkpoints(once: Callable[..., Path], repository: Path) -> Path:
    published = repository / "edgevit" / "zoo" / "checkpoints" / "digits-vit" / "model.safetensors"

    def make(place: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        good = load_file(published)
        (place / "cut.safetensors").write_bytes(published.read_bytes()[:5000])
        (place / "text.pt").write_text("these are not the weights you are looking for")
        torch.save({"state": Payload(place / "ran")}, place / "runs-code.pt")
        (place / "pickle.pkl").write_bytes(pickle.dumps(Payload(place / "ran")))
        save_file({name: value for name, value in good.items() if name != QKV}, place / "missing.safetensors")
        save_file({**good, "extra.weight": torch.zeros(3)}, place / "unexpected.safetensors")
        save_file({**good, QKV: good[QKV][:-1].clone()}, place / "shape.safetensors")
        save_file({**good, QKV: good[QKV] * float("nan")}, place / "nan.safetensors")
        save_file({**good, QKV: good[QKV] / 0}, place / "infinite.safetensors")

    return once("checkpoints", make)


class Payload:
    """Would write a file when a pickle of it is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent.safetensors", "found no file at"),
        ("cut.safetensors", "found a truncated or damaged one"),
        ("text.pt", "found a text file"),
        ("runs-code.pt", "found a pickle that calls posix.system"),
        ("pickle.pkl", "it was refused, because it could run code"),
        ("missing.safetensors", f"1 missing ({QKV})"),
        ("unexpected.safetensors", "1 unexpected (extra.weight)"),
        ("shape.safetensors", f"{QKV}: expected (288, 96), found (287, 96)"),
        ("nan.safetensors", f"NaN or infinity in 1 parameters ({QKV})"),
        ("infinite.safetensors", f"NaN or infinity in 1 parameters ({QKV})"),
    ],
)
def test_checkpoints(refused: Command, checkpoints: Path, name: str, expected: str) -> None:
    assert expected in refused("--weights", checkpoints / name)
    assert not (checkpoints / "ran").exists()


# ------------------------------------------------------------------------------------------- models, sets


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("zoo:nothing", "choose one of: digits-vit, vit-tiny-224"),
        ("timm:vit_tiny_patch16_224", "add --weights FILE"),
        ("timm:nothing", "choose one of: vit_tiny_patch16_224"),
        ("zoo:vit-tiny-224", "give --evaluation SET"),
        ("no_such_module:factory", "[preprocess] table"),
        ("pyproject.toml", "expected a model as zoo:NAME"),
    ],
)
def test_models(refused: Command, model: str, expected: str) -> None:
    assert expected in refused(model=model)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five folders: empty, flat, cats (a label nobody has), cut (one image is damaged), same (pixels of flat)."""
    root = tmp_path / "images"
    for name in ("empty", "flat", "cats/cat", "cut", "same"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        image = Image.fromarray(rng.integers(0, 255, (48, 48), dtype=np.uint8))
        image.save(root / "flat" / f"{index}.png")
        image.save(root / "same" / f"other-{index}.bmp")
        image.save(root / "cats" / "cat" / f"{index}.png")
        image.save(root / "cut" / f"{index}.png")
    damaged = root / "cut" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    return root


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--evaluation", "empty"], "found an empty folder"),
        (["--evaluation", "absent"], "found nothing there; check the path"),
        (["--evaluation", "cats"], "the model has no label 'cat'"),
        (["--evaluation", "cut"], "1 of 4 images cannot be read; first '3.png'"),
        (["--calibration", "empty"], "found an empty folder"),
        (["--calibration", "cut"], "1 of 4 images cannot be read; first '3.png'"),
        (["--calibration", "flat", "--evaluation", "same"], "4 of 4 images of the calibration set 'flat' are also in"),
        (["--calibration", "zoo:digits-vit:evaluation"], "expected none in both"),
        (["--evaluation", "flat", "--batch-size", "5"], "expected at least 5 samples for the fixed batch"),
    ],
)
def test_sets(refused: Command, images: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused(*(images / word if (images / word).exists() else word for word in arguments))


def test_a_calibration_set_without_labels_is_fine_and_too_few_images_too(
    inside: Command, digits: Any, images: Path, tmp_path: Path
) -> None:
    out = digits.resumed_at(tmp_path / "out", "calibrate", "plan", "quantize", "build")
    arguments = ["--recipe", digits.recipe, "-t", "onnxruntime:int8", "--calibration", images / "flat"]
    result = inside("export", "zoo:digits-vit", out, *arguments, "--budget", 99)
    assert result.status == 0, result.err
    assert "Calibrated on 4 samples; none of them is in the evaluation set" in " ".join(result.out.split())


# -------------------------------------------------------------------------------------- targets, settings


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["-t", "abacus:int8"], 2, "expected a target, one of openvino, onnxruntime"),
        (["-t", "openvino:int7"], 2, "one of float32, float16, bfloat16, int8"),
        (["-t", "onnxruntime:bfloat16"], 2, "one of float32, int8"),
        (["--cpu", "z80"], 2, "expected plan.cpu as one of any, auto, vnni, found 'z80'"),
        (["--samples", "0"], 2, "expected calibration.samples of at least 1, found 0"),
        (["--samples", "-3"], 2, "expected calibration.samples of at least 1, found -3"),
        (["--seed", "-1"], 2, "expected calibration.seed of at least 0, found -1"),
        (["--batch-size", "0"], 2, "expected trace.batch of at least 1, found 0"),
        (["--budget", "0"], 2, "expected parity.budget above 0 and below 100 points, found 0"),
        (["--budget", "nan"], 2, "expected parity.budget above 0 and below 100 points, found nan"),
        (["--image-size", "large"], 2, "expected --image-size as H or HxW in pixels, found 'large'"),
        (["--image-size", "10x"], 2, "expected --image-size as H or HxW in pixels, found '10x'"),
        (["--image-size", "48x-3"], 2, "expected --image-size as H or HxW in pixels"),
        (["--image-size", "0"], 2, "expected an image size of 1 to 4096 pixels a side, found 0"),
        (["--image-size", "48000000"], 2, "expected an image size of 1 to 4096 pixels a side"),
        (["--image-size", "50"], 2, "multiples of the patch size 16, found 50x50"),
        (["--plan", "no-such-plan.toml"], 2, "could not read it"),
        (["--plan", "export/digits-vit.toml"], 2, "is this a quantization plan?"),
        (["--recipe", "no-such-recipe.toml"], 2, "which cannot be read: No such file or directory; check the path"),
    ],
)
def test_settings(
    refused: Command,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    expected: str,
) -> None:
    monkeypatch.chdir(repository)
    assert expected in refused(*arguments, "--calibration", "zoo:digits-vit:calibration", status=status)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("color = 'blue'", "expected a key of a recipe (model, weights, "),
        ("bench.rounds = 0", "expected rounds of at least 1"),
        ("bench.seconds = 0", "expected seconds above 0"),
        ("plan.ranges = 'guess'", "expected plan.ranges as search, min-max"),
        ("plan.equalize = ['everything']", "expected plan.equalize[0] as one of multiply, norm, values"),
        ("targets = []", "expected at least one target"),
        ("options.'onnxruntime:int8' = { a = 'b' }", "expected options of targets that are built"),
        ("model = [", "expected TOML"),
    ],
)
def test_recipes(refused: Command, tmp_path: Path, text: str, expected: str) -> None:
    model = "" if text.startswith("model") else "model = 'zoo:digits-vit'\n"
    bench = "" if text.startswith("bench") else "bench.enabled = false\n"
    (tmp_path / "recipe.toml").write_text(f"{model}evaluation.samples = 20\n{bench}{text}\n")
    complaint = refused("--recipe", tmp_path / "recipe.toml", *(["--bench"] if not bench else []))
    assert expected in complaint


@pytest.mark.parametrize(
    ("recipe", "arguments", "expected"),
    [
        ("", ["--skip", "nothing*"], "expected --skip 'nothing*' to match a layer"),
        ("options.'openvino:float32' = { blob = 'x' }", [], "found blob=x"),
    ],
)
def test_what_only_a_later_stage_can_know(
    refused: Command, digits: Any, tmp_path: Path, recipe: str, arguments: list[str], expected: str
) -> None:
    digits.resumed_at(tmp_path / "out", "plan", "build")
    (tmp_path / "recipe.toml").write_text(f"{digits.recipe.read_text()}\n{recipe}")
    assert expected in refused("--recipe", tmp_path / "recipe.toml", *arguments)


def test_bfloat16_where_the_processor_has_none(refused: Command) -> None:
    from edgevit.targets import get_target

    if not get_target("openvino").why_not("bfloat16"):
        pytest.skip("this processor executes bfloat16")
    assert "a processor that executes bfloat16, found" in refused("-t", "openvino:bfloat16", status=3)


# ------------------------------------------------------------------------------------------------ engines


@pytest.mark.parametrize(
    ("absent", "target", "extra"),
    [
        ("openvino", "openvino:int8", "edgevit[openvino]"),
        ("onnxruntime", "onnxruntime:int8", "edgevit[onnxruntime]"),
        ("torch", "openvino:float32", "edgevit[export]"),
        ("safetensors", "openvino:float32", "edgevit[export]"),
        ("onnx_ir", "openvino:float32", "edgevit[export]"),
        ("onnxscript", "openvino:float32", "edgevit[export]"),
        ("onnxruntime", "openvino:float32", "edgevit[export]"),
        ("jinja2", "openvino:float32", "edgevit[report]"),
        ("matplotlib", "openvino:float32", "edgevit[report]"),
    ],
)
def test_a_package_that_is_not_installed(
    edgevit: Command, tmp_path: Path, absent: str, target: str, extra: str
) -> None:
    result = edgevit("export", "zoo:digits-vit", tmp_path / "out", "-t", target, "--no-bench", without=[absent])
    assert result.status == 3, result.err
    assert result.out == ""
    assert f"pip install '{extra}'" in result.complaint
    assert not (tmp_path / "out").exists()
    # Said before the work, not after it.
    assert not re.search(r"^(tracing|building)", result.err, re.MULTILINE)


# ------------------------------------------------------------------------------------------------- output


def test_an_output_that_exists(inside: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep me")
    result = inside("export", "zoo:digits-vit", out)
    assert (result.status, result.out) == (2, "")
    assert "exists already; choose another, or replace it with --force" in result.complaint
    result = inside("export", "zoo:digits-vit", out, "--force")
    assert result.status == 2
    assert "holds no manifest.json (found 'precious.txt'), so --force will not replace it" in result.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "precious.txt").read_text() == "keep me"


def test_an_output_that_is_or_lies_below_a_file(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        result = inside("export", "zoo:digits-vit", out, "--force")
        assert result.status == 2
        assert "choose another output" in result.complaint
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize(
    ("code", "expected"), [("ENOSPC", "the disk is full"), ("EROFS", "the file system is read-only")]
)
@pytest.mark.parametrize("stage", ["calibrate", "quantize", "build-onnxruntime-int8", "report"])
def test_a_disk_that_refuses(
    inside: Command,
    digits: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    expected: str,
    stage: str,
) -> None:
    import errno

    number = getattr(errno, code)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    place = {
        "calibrate": "edgevit.pipeline.stages.save_statistics",
        "quantize": "edgevit.pipeline.stages.write_quantized",
        "build-onnxruntime-int8": "edgevit.targets.onnxruntime.build",
        "report": "edgevit.pipeline.assembly.write_report",
    }
    monkeypatch.setattr(place[stage], refuse)
    out = digits.resumed_at(tmp_path / "out", stage)
    result = inside("export", "zoo:digits-vit", out, "--recipe", digits.recipe)
    assert result.status == 2, result.err
    assert expected in result.complaint
    assert not out.exists() and not list(tmp_path.rglob("manifest*.json"))
    monkeypatch.undo()


def test_a_limit_on_the_size_of_files(edgevit: Command, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    result = edgevit("export", "zoo:digits-vit", tmp_path / "out", "-t", "onnxruntime:float32", prelude=limit)
    assert result.status == 2, result.err
    assert "cannot write" in result.complaint and "(EFBIG)" in result.complaint
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("manifest*.json"))


def test_force_keeps_the_old_bundle_until_the_new_one_is_complete(inside: Command, digits: Any, tmp_path: Path) -> None:
    out = digits.copy(tmp_path / "out")
    before = (out / "manifest.json").read_bytes()
    result = inside("export", "zoo:digits-vit", out, "--force", "--weights", tmp_path / "absent.pt")
    assert result.status == 2
    assert (out / "manifest.json").read_bytes() == before
    assert inside("verify", out).status == 0
    shutil.rmtree(out)
