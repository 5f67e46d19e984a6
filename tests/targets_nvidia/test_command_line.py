"""Bad input, a missing driver, and a card that is played under the real session: what the command line says of each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.quantize.write_onnx import WriteOptions, quantize_graph
from edgevit.targets import tensorrt, tensorrt_rtx
from edgevit.targets.nvidia import cuda_runtime, engine, opening
from edgevit.targets.nvidia.device import DeviceState
from edgevit.targets.nvidia.files import ENGINE, KIT, ONNX

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT-RTX is not installed, so no engine was compiled; pip install 'edgevit[tensorrt-rtx]'",
)
Command = Callable[..., Any]
RTX, FULL = "tensorrt-rtx-int8", "tensorrt-float16"
RECIPE = """
model = "zoo:digits-vit"
targets = ["openvino:float32", "onnxruntime:int8", "tensorrt-rtx:int8", "tensorrt:float16"]
[options."tensorrt-rtx:int8"]
gpu = "sm86,sm89"
[calibration]
samples = 16
[evaluation]
samples = 20
[plan]
ranges = "min-max"
weights = "min-max"
equalize = []
bias_correction = false
[bench]
enabled = false
"""


@pytest.fixture(scope="module")
def exported(once: Callable[..., Path], edgevit: Command) -> Path:
    """A bundle with an engine, a kit and a build of the processor; not to be changed."""

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(RECIPE)
        done = edgevit("export", "zoo:digits-vit", place / "out", "--recipe", place / "recipe.toml")
        assert done.status == 0, done.err
        assert "built, not executed" in done.out

    return once("nvidia", make) / "out"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def digit(repository: Path) -> Path:
    return sorted((repository / "calibration" / "samples").glob("*.png"))[0]


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("tensorrt-rtx:float16", ["--gpu", "sm86,sm1"], "found sm1 in 'sm86,sm1'; choose from: sm75"),
        ("tensorrt-rtx:float8", ["--gpu", "sm75"], "expected cards of sm89 or newer for float8, found sm75"),
        ("tensorrt-rtx:float16", ["--profile", "batch:4:2:8"], "1 <= min <= opt <= max in the profile of 'batch'"),
        ("tensorrt:float16", ["--profile", "batch:4:8:2"], "min 4, opt 8, max 2"),
        ("tensorrt-rtx:float16", ["--profile", "length:1:2:3"], r"the dynamic dimensions (batch), found 'length'"),
        ("openvino:float32", ["--profile", "batch:1:2:3"], "expected a target tensorrt-rtx or tensorrt for --profile"),
        ("openvino:float32", ["--gpu", "sm86"], "expected a target tensorrt-rtx for --gpu"),
    ],
)
def test_options_that_make_no_sense_end_with_2(inside: Command, tmp_path: Path, target, options, expected) -> None:
    done = inside("export", "zoo:digits-vit", tmp_path / "out", "-t", target, *options)
    assert done.status == 2
    assert expected in done.complaint
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_length_without_a_profile_is_found_before_calibrating(inside: Command, tmp_path: Path) -> None:
    done = inside("export", "zoo:tags-rnn", tmp_path / "out", "-t", "tensorrt-rtx:int8")
    assert done.status == 2
    assert "expected a profile for the dynamic dimension 'source_length', found none" in done.complaint
    assert not list((tmp_path / ".out.edgevit-stages").glob("calibrate*"))


def test_a_plan_with_zero_points_is_refused(inside: Command, exported: Path, tmp_path: Path) -> None:
    """A plan is symmetric by its form: there is no key that could make it otherwise."""
    text = (exported / "plan.toml").read_text()
    (tmp_path / "plan.toml").write_text(text.replace("[[layer]]\n", "[[layer]]\ninput_zero_point = 3\n", 1))
    arguments = ["-t", "tensorrt-rtx:int8", "--plan", tmp_path / "plan.toml"]
    done = inside("export", "zoo:digits-vit", tmp_path / "out", *arguments)
    assert done.status == 2
    assert "input_zero_point" in done.complaint


def test_an_asymmetric_graph_is_refused(inside: Command, tiny: Any, repository: Path, tmp_path: Path) -> None:
    """One that somebody else has quantized: TensorRT would read its uint8 as int8 without a word."""
    import onnx_ir as ir

    graph = storage.load(tiny.onnx.path)
    quantize_graph(graph, tiny.plan, WriteOptions())
    for node in graph.graph:
        if node.op_type == "QuantizeLinear":
            value = node.inputs[2]
            assert value is not None
            value.const_value = ir.tensor(np.int8(3), name=value.name)
    storage.save(graph, tmp_path / "quantized.onnx")
    (tmp_path / "preprocess.toml").write_text("size = [32, 32]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n")
    done = inside(
        "export",
        tmp_path / "quantized.onnx",
        tmp_path / "out",
        *("-t", "tensorrt-rtx:float32", "--task", "image-classification"),
        *("--preprocess", tmp_path / "preprocess.toml"),
        *("--evaluation", repository / "calibration" / "samples"),
    )
    assert done.status == 2, done.err
    assert "expected zero point 0 (symmetric), found 3" in done.complaint


# ------------------------------------------------------------------------------------- an encoder and a decoder

TRANSLATOR = RECIPE.replace("digits-vit", "phrases-transformer").replace(
    'targets = ["openvino:float32", "onnxruntime:int8", "tensorrt-rtx:int8", "tensorrt:float16"]',
    'targets = ["tensorrt-rtx:float16", "tensorrt-rtx:int8"]',
)
LENGTHS = "source_length:1:16:48,target_length:1:1:48,past_length:0:8:47"


def test_a_translator_is_compiled_and_its_translations_are_simulated(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(TRANSLATOR)
    out = tmp_path / "out"
    done = inside(
        "export", "zoo:phrases-transformer", out, "--recipe", tmp_path / "recipe.toml", "--profile", LENGTHS, "--json"
    )
    assert done.status == 0, done.err
    rungs = {rung["name"]: rung for rung in json.loads(done.out)["parity"]["rungs"]}
    for precision, floor in (("float16", 45), ("int8", 15)):
        assert rungs[f"simulated tensorrt-rtx-{precision}"]["verdict"] in ("passed", "inconclusive")
        assert rungs[f"simulated tensorrt-rtx-{precision}"]["closeness"]["sqnr_db"] > floor
        assert rungs[f"tensorrt-rtx-{precision}"]["verdict"] == "not executed"
    builds = {build["precision"]: build for build in json.loads((out / "manifest.json").read_bytes())["builds"]}
    int8 = builds["int8"]
    assert int8["options"]["int8_layers"] == "encoder: 24 of 24; decoder: 25 of 25"
    assert int8["execution"]["quantized_executed"] == int8["execution"]["quantized_requested"] == 49
    assert "3 fused attention" in int8["options"]["kernels"] and "6 fused attention" in int8["options"]["kernels"]
    assert {file["path"] for file in int8["files"]} >= {f"{RTX}/{part}/{ENGINE}" for part in ("encoder", "decoder")}
    assert int8["options"]["profile"].startswith("batch:1:1:8,past_length:0:8:47,source_length:1:16:48")
    done = inside("run", out, "am Montag um zehn Uhr")
    assert done.status == 3 and "no NVIDIA driver" in done.complaint


# ------------------------------------------------------------------------------------- without a driver, really


def test_without_a_driver_running_ends_with_3(edgevit: Command, exported: Path, digit: Path) -> None:
    done = edgevit("run", exported, digit, "-t", "tensorrt-rtx")
    assert (done.status, done.out) == (3, "")
    assert "no NVIDIA driver on this machine" in done.complaint


def test_a_kit_is_not_finished_without_tensorrt(edgevit: Command, exported: Path) -> None:
    done = edgevit("build", exported)
    assert (done.status, done.out) == (3, "")
    assert f"expected to finish {FULL} here: TensorRT is not installed here" in done.complaint


def test_what_was_not_executed_is_verified_as_not_executed(inside: Command, exported: Path) -> None:
    done = inside("verify", exported, "--json")
    verdicts = {check["build"]: check["verdict"] for check in json.loads(done.out)["builds"]}
    assert verdicts == {
        "openvino-float32": "passed",
        "onnxruntime-int8": "passed",
        RTX: "not executed",
        FULL: "not executed",
    }


def test_a_truncated_engine_is_damage(inside: Command, bundle: Path, digit: Path) -> None:
    os.truncate(bundle / RTX / ENGINE, 1000)
    for arguments in (["run", bundle, digit], ["verify", bundle]):
        done = inside(*arguments)
        assert done.status == 1
        assert f"{RTX}/{ENGINE}" in done.err + done.out


def test_a_repository_for_triton_is_written_from_the_bundle(inside: Command, exported: Path, tmp_path: Path) -> None:
    done = inside("build", exported, "--triton", tmp_path / "models", "--json")
    assert done.status == 0, done.err
    written = json.loads(done.out)["triton"]
    assert written["models"] == ["digits-vit-openvino-float32", "digits-vit-onnxruntime-int8"]
    assert "build kit" in written["skipped"][FULL] and "no backend" in written["skipped"][RTX]
    for name, file in zip(written["models"], ("model.xml", "model.onnx"), strict=True):
        config = (tmp_path / "models" / name / "config.pbtxt").read_text()
        assert "max_batch_size: 8" in config and "dynamic_batching {" in config and "instance_group [" in config
        assert f'default_model_filename: "{file}"' in config and (tmp_path / "models" / name / "1" / file).exists()


# --------------------------------------------------------------------------------------- with a card that is played


class Context:
    """Runs the simulation of the engine on the memory that the session has put at its addresses."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.places: dict[str, int] = {}

    def set_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] <= 8

    def shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["pixel_values"][0], 10)

    def set_address(self, name: str, pointer: int) -> bool:
        self.places[name] = pointer
        return True

    def enqueue(self, stream: int) -> bool:
        shape, places, memory = self.shapes["pixel_values"], dict(self.places), self.card.cuda.memory

        def work() -> None:
            data = memory[places["pixel_values"]][: 4 * prod(shape)].view(np.float32).reshape(shape)
            logits = self.card.executor.run({"pixel_values": data})["logits"]
            memory[places["logits"]][: logits.nbytes] = logits.reshape(-1).view(np.uint8)

        self.card.cuda.work(stream, work)
        return True

    def capturable(self, stream: int) -> bool:
        return True


class Card:
    """A card: its memory, and the engines that were given to it."""

    def __init__(self, cuda: Any, simulation: Path) -> None:
        self.cuda = cuda
        self.executor = Executor(simulation, exact=True)
        self.engines: list[bytes] = []

    def load(self, nvidia: Any, serialized: bytes, name: str, cache: Path | None) -> Card:
        self.engines.append(serialized)
        return self

    def new_context(self) -> Context:
        return Context(self)

    def close(self) -> None:
        self.executor.close()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, cuda: Any, exported: Path, tmp_path: Path) -> Callable[[str], Card]:
    """(architecture) -> this machine has such a card."""

    def here(architecture: str) -> Card:
        tensorrt_rtx.simulate(exported / RTX, tmp_path / "simulated.onnx")
        made = Card(cuda, tmp_path / "simulated.onnx")
        state = DeviceState(name="NVIDIA RTX", architecture=architecture, driver="12.8")
        for module in (tensorrt_rtx, tensorrt, opening):
            monkeypatch.setattr(module, "probe", lambda: state)
        monkeypatch.setattr(cuda_runtime, "CudaRuntime", lambda extra: cuda)
        monkeypatch.setattr(engine, "DeserializedEngine", made.load)
        return made

    return here


def test_on_a_card_the_engine_runs_and_agrees(inside: Command, exported: Path, digit: Path, card) -> None:
    expected = inside("run", exported, digit, "-t", "openvino:float32", "--json")
    played = card("sm89")
    done = inside("run", exported, digit, "-t", "tensorrt-rtx", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out) != {} and first_label(done) == first_label(expected)
    assert played.engines == [(exported / RTX / ENGINE).read_bytes()]
    assert (played.cuda.memory, played.cuda.pinned, played.cuda.streams) == ({}, [], {}), "something was not freed"


def first_label(done: Any) -> str:
    found = json.loads(done.out)
    while not isinstance(found, str):
        found = found.get("label") or next(iter(found.values())) if isinstance(found, dict) else found[0]
    return found


def test_verify_replays_the_golden_inputs_on_the_card(inside: Command, exported: Path, card) -> None:
    card("sm86")
    done = inside("verify", exported, "--json")
    assert done.status == 0, done.err
    verdicts = {check["build"]: check["verdict"] for check in json.loads(done.out)["builds"]}
    assert verdicts[RTX] == "passed"


def test_another_card_ends_with_3_or_compiles_again(inside: Command, exported: Path, digit: Path, card) -> None:
    played = card("sm120")
    done = inside("run", exported, digit, "-t", "tensorrt-rtx")
    assert (done.status, done.out) == (3, "")
    assert f"expected a card of sm86, sm89 for {RTX}, found sm120" in done.complaint
    assert played.engines == []
    done = inside("run", exported, digit, "-t", "tensorrt-rtx", "--rebuild", "--json")
    assert done.status == 0, done.err
    (compiled,) = played.engines
    assert compiled[:4] == b"vtrt" and compiled != (exported / RTX / ENGINE).read_bytes()


def resealed(bundle: Path, path: Path) -> None:
    """The manifest as if `path` had been made so: what is wrong must be found by what reads it."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    for build in manifest["builds"]:
        for file in build["files"]:
            if bundle / file["path"] == path:
                file |= {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_an_engine_of_another_version_ends_with_3(inside: Command, bundle: Path, digit: Path, card) -> None:
    card("sm86")
    path = bundle / RTX / ENGINE
    data = bytearray(path.read_bytes())
    data[24:28] = bytes((1, 9, 0, 7))
    path.write_bytes(data)
    resealed(bundle, path)
    done = inside("run", bundle, digit, "-t", "tensorrt-rtx")
    assert (done.status, done.out) == (3, "")
    assert "expected TensorRT-RTX 1.9.0.7" in done.complaint and "pip install" in done.complaint


def test_an_engine_cut_short_before_it_was_sealed_is_said(inside: Command, bundle: Path, digit: Path, card) -> None:
    card("sm86")
    path = bundle / RTX / ENGINE
    os.truncate(path, 1000)
    resealed(bundle, path)
    done = inside("run", bundle, digit, "-t", "tensorrt-rtx")
    assert done.status == 1 and "it is truncated or changed" in done.complaint


def test_a_full_card_ends_with_3(inside: Command, exported: Path, digit: Path, card) -> None:
    card("sm86").cuda.limit = 100
    done = inside("run", exported, digit, "-t", "tensorrt-rtx")
    assert (done.status, done.out) == (3, "")
    assert "expected room on the GPU" in done.complaint


def test_a_kit_is_finished_and_served(inside: Command, bundle: Path, tmp_path: Path, card, monkeypatch) -> None:
    """TensorRT and the card are played; the commands, the checks and the files are real."""
    import tensorrt_rtx_bindings

    card("sm87")
    monkeypatch.setattr(tensorrt, "installed_version", lambda *names: tensorrt_rtx_bindings.__version__)
    monkeypatch.setattr(tensorrt, "_bindings", lambda: tensorrt_rtx_bindings)
    compiled = []

    def finish(nvidia: Any, directory: Path, signature: Any, architecture: str) -> dict[str, str]:
        compiled.append(architecture)
        assert (directory / KIT).exists() and (directory / ONNX).exists()
        (directory / ENGINE).write_bytes(b"an engine")
        return {"profile": "batch:1:1:8", "gpu": architecture}

    monkeypatch.setattr(tensorrt, "finish_kit", finish)
    done = inside("build", bundle, "--triton", tmp_path / "models", "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert compiled == ["sm87"]
    assert [build["build"] for build in result["builds"]] == [FULL]
    assert result["builds"][0]["sqnr_db"] > 20, "the golden inputs went through it"
    assert "digits-vit-tensorrt-float16" in result["triton"]["models"]
    assert "KIND_GPU" in (tmp_path / "models" / "digits-vit-tensorrt-float16" / "config.pbtxt").read_text()
    assert inside("build", bundle).status == 2, "there is nothing left to finish"
