"""Kits finished in a bundle, and bundles as Triton repositories; the compiler and the card are played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.bundle import Manifest, describe_directory, describe_file, open_bundle, write_golden, write_manifest
from edgevit.errors import InputError, OutputError, RecipeError, UnavailableError
from edgevit.pipeline import finishing
from edgevit.pipeline.finishing import finish, finish_or_serve, with_cards
from edgevit.recipe import Recipe
from edgevit.targets import tensorrt
from edgevit.targets.base import Availability
from edgevit.targets.nvidia.files import ENGINE, KIT, ONNX
from edgevit.targets.nvidia.triton import TritonOptions, model_config, write_triton
from edgevit.types import BuildPart, Execution, ImagePreprocess, Signature, TensorSpec

MISSING = Availability(
    build=True, run=False, run_reason="TensorRT is not installed here", run_fix="pip install tensorrt"
)
HERE = Availability(build=True, run=True, version="10.13.0.35")


class Session:
    """y = 2 x, as exact as it is told to be."""

    def __init__(self, error: float) -> None:
        self.error = error
        self.closed = False

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": 2 * inputs["x"] * np.float32(1 + self.error)}

    def execution(self) -> Execution:
        return Execution(precision="int8", provider="tensorrt 10.13.0.35", instruction_set="Orin")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bundle(tmp_path: Path, build) -> Path:
    """One float32 build of OpenVINO, one kit of TensorRT, one engine of TensorRT-RTX."""
    root = tmp_path / "bundle"
    contents = {
        "openvino-float32": {"model.xml": b"<net/>", "model.bin": b"1"},
        "tensorrt-int8": {KIT: b"{}", ONNX: b"graph"},
        "tensorrt-rtx-int8": {ENGINE: b"vtrt", ONNX: b"graph"},
    }
    for name, files in contents.items():
        (root / name).mkdir(parents=True)
        for file, data in files.items():
            (root / name / file).write_bytes(data)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_golden(root / "golden.npz", {"x": x}, {"y": 2 * x})
    builds = tuple(
        msgspec.structs.replace(
            build,
            target=name.rpartition("-")[0],
            precision=name.rpartition("-")[2],
            files=describe_directory(root, root / name),
            options={"profile": "batch:1:2:16"} if "tensorrt" in name else {},
        )
        for name in contents
    )
    manifest = Manifest(
        edgevit="0.1.0",
        model="tiny vit",
        source_digest="0" * 64,
        signature=build.signature,
        task="image-features",
        preprocess=ImagePreprocess(size=(8, 8), mean=(0.5,), std=(0.5,)),
        labels=(),
        trained=False,
        toolchain={},
        machine=build.machine,
        builds=builds,
        files=(describe_file(root, root / "golden.npz"),),
    )
    write_manifest(root, manifest)
    return root


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A device that finishes kits; its session's error can be set."""
    state: dict[str, Any] = {"error": 1e-3, "finished": []}

    def finish_kit(directory: Path, signature: Signature) -> dict[str, str]:
        state["finished"].append(directory.name)
        (directory / ENGINE).write_bytes(b"an engine")
        return {"profile": "batch:1:2:16", "gpu": "sm87"}

    def open_session(directory: Path, build: Any, options: Any) -> Session:
        assert (directory / ENGINE).exists()
        state["session"] = Session(state["error"])
        return state["session"]

    monkeypatch.setattr(tensorrt, "availability", lambda: HERE)
    monkeypatch.setattr(tensorrt, "finish", finish_kit)
    monkeypatch.setattr(tensorrt, "open", open_session)
    return state


def test_a_kit_becomes_a_checked_build(bundle: Path, device) -> None:
    result = finish(bundle)
    (finished,) = result.builds
    assert result.passed and finished.build == "tensorrt-int8"
    assert finished.verdict == "inconclusive" and "run edgevit parity" in finished.reason, "golden inputs are no parity"
    assert finished.sqnr_db == pytest.approx(60, abs=0.5)
    opened = open_bundle(bundle, check="hashes")
    build = opened.builds("tensorrt:int8")[0]
    assert {file.path.rpartition("/")[2] for file in build.files} == {ENGINE, KIT, ONNX}
    assert (build.engine.version, build.engine.device, build.options["gpu"]) == ("10.13.0.35", "sm87", "sm87")
    assert build.golden_sqnr_db == finished.sqnr_db and build.execution.instruction_set == "Orin"
    assert device["session"].closed
    assert len(opened.manifest.builds) == 3


def test_wrong_results_fail_it(bundle: Path, device) -> None:
    device["error"] = 1.0
    result = finish(bundle)
    assert not result.passed
    assert "at least 10 dB on the golden inputs, found 0.0 dB" in result.builds[0].reason
    assert open_bundle(bundle).builds("tensorrt:int8")[0].verdict == "failed"


def test_infinite_results_fail_it(bundle: Path, device) -> None:
    device["error"] = float("inf")
    with np.errstate(invalid="ignore"):
        (finished,) = finish(bundle).builds
    assert (finished.verdict, finished.sqnr_db) == ("failed", None)


def test_a_finished_kit_is_built_again_only_if_asked(bundle: Path, device) -> None:
    finish(bundle)
    with pytest.raises(InputError, match="add --again"):
        finish(bundle)
    finish(bundle, "tensorrt", again=True)
    assert device["finished"] == ["tensorrt-int8"] * 2


def test_without_the_compiler_nothing_changes(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "availability", lambda: MISSING)
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(UnavailableError, match="finish tensorrt-int8 here: TensorRT is not installed here") as error:
        finish(bundle)
    assert error.value.exit_status == 3
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_failed_compilation_leaves_the_bundle_as_it_was(bundle: Path, device, monkeypatch) -> None:
    def fail(directory: Path, signature: Signature) -> dict[str, str]:
        (directory / ENGINE).write_bytes(b"half")
        raise InputError("no kernel")

    monkeypatch.setattr(tensorrt, "finish", fail)
    with pytest.raises(InputError, match="no kernel"):
        finish(bundle)
    assert not (bundle / "tensorrt-int8" / ENGINE).exists()
    open_bundle(bundle, check="hashes")


def test_cards_go_to_the_builds_that_are_compiled_for_cards() -> None:
    recipe = Recipe(
        model="m", targets=("openvino:int8", "tensorrt-rtx:int8"), options={"tensorrt-rtx:int8": {"tf32": "yes"}}
    )
    assert with_cards(recipe, "sm89,sm86").options == {"tensorrt-rtx:int8": {"tf32": "yes", "gpu": "sm86,sm89"}}
    with pytest.raises(InputError, match="choose from"):
        with_cards(recipe, "sm1")
    with pytest.raises((InputError, RecipeError), match="expected a target tensorrt-rtx for --gpu"):
        with_cards(Recipe(model="m", targets=("openvino:int8",)), "sm86")


# ------------------------------------------------------------------------------------------------ triton


def test_a_repository_has_what_triton_serves(bundle: Path, tmp_path: Path, device) -> None:
    result = finish_or_serve(bundle, None, False, tmp_path / "models")
    assert result.builds[0].build == "tensorrt-int8"
    assert result.triton.models == ("tiny-vit-openvino-float32", "tiny-vit-tensorrt-int8")
    assert "no backend for tensorrt-rtx" in result.triton.skipped["tensorrt-rtx-int8"]
    folder = tmp_path / "models" / "tiny-vit-tensorrt-int8"
    assert (folder / "1" / ENGINE).read_bytes() == b"an engine"
    config = (folder / "config.pbtxt").read_text()
    assert config.splitlines()[:4] == [
        'name: "tiny-vit-tensorrt-int8"',
        'backend: "tensorrt"',
        'default_model_filename: "model.engine"',
        "max_batch_size: 16",
    ]
    assert '{ name: "x" data_type: TYPE_FP32 dims: [ 3 ] }' in config
    assert "preferred_batch_size: [ 2, 4, 8, 16 ]" in config
    assert "kind: KIND_GPU" in config
    assert config.count("{") == config.count("}") and config.count("[") == config.count("]")


def test_a_kit_that_cannot_be_finished_here_is_left_out(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensorrt, "availability", lambda: MISSING)
    result = finish_or_serve(bundle, None, False, tmp_path / "models")
    assert result.builds == ()
    assert result.triton.models == ("tiny-vit-openvino-float32",)
    assert "build kit" in result.triton.skipped["tensorrt-int8"]


def test_an_unfinished_kit_and_a_failed_build_are_left_out(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    builds = tuple(
        msgspec.structs.replace(build, verdict="failed") if build.target == "openvino" else build
        for build in opened.manifest.builds
    )
    failed = msgspec.structs.replace(opened, manifest=msgspec.structs.replace(opened.manifest, builds=builds))
    with pytest.raises(InputError, match="it failed parity.*it is a build kit"):
        write_triton(failed, tmp_path / "models")
    assert not (tmp_path / "models").exists()
    assert write_triton(opened, tmp_path / "models").models == ("tiny-vit-openvino-float32",)
    with pytest.raises(OutputError, match="exists already"):
        write_triton(opened, tmp_path / "models")


def test_a_static_model_is_served_as_it_is(build) -> None:
    static = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(4, 3)), TensorSpec(name="n", dtype="int64", shape=(4,))),
        outputs=(TensorSpec(name="y", dtype="float16", shape=(4, 10)),),
    )
    config = model_config("m", msgspec.structs.replace(build, target="onnxruntime", signature=static), TritonOptions())
    assert "max_batch_size: 0" in config and "dynamic_batching" not in config
    assert "dims: [ 4, 3 ] }," in config and "TYPE_INT64" in config and "TYPE_FP16" in config
    assert "kind: KIND_CPU" in config


def test_a_type_that_triton_has_not_is_named(build) -> None:
    odd = Signature(inputs=(TensorSpec(name="x", dtype="complex64", shape=("batch",)),), outputs=())
    with pytest.raises(InputError, match="found complex64"):
        model_config("m", msgspec.structs.replace(build, target="openvino", options={}, signature=odd), TritonOptions())


# ------------------------------------------------------------------------------------- an encoder and a decoder


def in_parts(bundle: Path) -> Any:
    """The TensorRT build of `bundle` as a build of two graphs."""
    opened = open_bundle(bundle)
    folder = bundle / "tensorrt-int8"
    texts = {"dtype": "int64", "shape": ("batch", "source_length")}
    past = TensorSpec(name="past", dtype="float32", shape=("batch", 4, "past_length", 8))
    states = TensorSpec(name="states", dtype="float32", shape=("batch", "source_length", 8))
    encoder = Signature(inputs=(TensorSpec(name="ids", **texts),), outputs=(states,))
    decoder = Signature(inputs=(TensorSpec(name="ids", **texts), past), outputs=(past,))
    for part in ("encoder", "decoder"):
        (folder / part).mkdir()
        for name in (KIT, ONNX):
            (folder / part / name).write_bytes((folder / name).read_bytes())
    for name in (KIT, ONNX):
        (folder / name).unlink()
    parts = (BuildPart(name="encoder", signature=encoder), BuildPart(name="decoder", signature=decoder))
    builds = tuple(
        msgspec.structs.replace(build, parts=parts, files=describe_directory(bundle, folder))
        if build.target == "tensorrt"
        else build
        for build in opened.manifest.builds
    )
    write_manifest(bundle, msgspec.structs.replace(opened.manifest, builds=builds))
    return open_bundle(bundle)


def test_both_parts_of_a_kit_are_finished(bundle: Path, device, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(bundle)
    seen: list[tuple[str, tuple[str, ...]]] = []

    def finish_part(directory: Path, signature: Signature) -> dict[str, str]:
        seen.append((directory.name, tuple(spec.name for spec in signature.inputs)))
        (directory / ENGINE).write_bytes(b"an engine")
        return {"gpu": "sm87", "int8_layers": "24 of 24" if directory.name == "encoder" else "25 of 25"}

    monkeypatch.setattr(tensorrt, "finish", finish_part)
    monkeypatch.setattr(finishing, "open_session", lambda *given: Session(1e-3))
    (finished,) = finish(bundle).builds
    assert seen == [("encoder", ("ids",)), ("decoder", ("ids", "past"))]
    assert finished.options == {"gpu": "sm87", "int8_layers": "encoder: 24 of 24; decoder: 25 of 25"}
    assert {file.path for file in open_bundle(bundle, check="hashes").builds("tensorrt:int8")[0].files} >= {
        f"tensorrt-int8/{part}/{ENGINE}" for part in ("encoder", "decoder")
    }


def test_an_encoder_and_a_decoder_are_two_models_of_triton(bundle: Path, tmp_path: Path) -> None:
    opened = in_parts(bundle)
    for part in ("encoder", "decoder"):
        (bundle / "tensorrt-int8" / part / ENGINE).write_bytes(b"an engine")
    profile = "batch:1:1:4,past_length:0:8:47,source_length:1:16:48"
    builds = tuple(
        msgspec.structs.replace(
            build, files=describe_directory(bundle, bundle / "tensorrt-int8"), options={"profile": profile}
        )
        for build in opened.manifest.builds
        if build.target == "tensorrt"
    )
    opened = msgspec.structs.replace(opened, manifest=msgspec.structs.replace(opened.manifest, builds=builds))
    names = write_triton(opened, tmp_path / "models").models
    assert names == ("tiny-vit-tensorrt-int8-encoder", "tiny-vit-tensorrt-int8-decoder")
    config = (tmp_path / "models" / names[1] / "config.pbtxt").read_text()
    assert "max_batch_size: 4" in config and 'name: "past" data_type: TYPE_FP32 dims: [ 4, -1, 8 ]' in config
    assert (tmp_path / "models" / names[1] / "1" / ENGINE).exists()
