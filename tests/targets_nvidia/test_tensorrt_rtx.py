"""The target: what it says without its wheels and without a GPU, and engines really compiled where the wheels are."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.errors import BuildError, InputError, PlanError, UnavailableError
from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.write_onnx import write_quantized
from edgevit.targets import get_target, parse_target, tensorrt_rtx
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.targets.nvidia.device import DeviceState
from edgevit.targets.nvidia.engine_file import read_header
from edgevit.targets.nvidia.files import ENGINE, LAYERS, ONNX
from edgevit.types import Signature, TensorSpec

needs_wheels = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT-RTX is not installed, so no engine was compiled; pip install 'edgevit[tensorrt-rtx]'",
)


@pytest.fixture(scope="module")
def source(tiny, tmp_path_factory) -> BuildSource:
    path = tmp_path_factory.mktemp("quantized") / "model.onnx"
    quantized = write_quantized(tiny.onnx, tiny.plan, path)
    return BuildSource(float_model=None, onnx=tiny.onnx, quantized=quantized, plan=tiny.plan)


# ----------------------------------------------------------------------------- without wheels, without a GPU


def test_it_is_found_by_its_name() -> None:
    assert get_target("tensorrt-rtx") is tensorrt_rtx
    assert parse_target("tensorrt-rtx:int8") == ("tensorrt-rtx", "int8")


def test_without_the_wheels_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_rtx, "installed_version", lambda package: None)
    state = tensorrt_rtx.availability()
    assert (state.build, state.run, state.build_fix) == (False, False, "pip install 'edgevit[tensorrt-rtx]'")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_rtx, "installed_version", lambda package: "1.7.1.116")
    reason = "no NVIDIA driver on this machine"
    monkeypatch.setattr(tensorrt_rtx, "probe", lambda: DeviceState(reason=reason, fix="run it on a machine with one"))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_builds_and_does_not_run() -> None:
    state = tensorrt_rtx.availability()
    assert (state.build, state.run) == (True, False)
    assert "no NVIDIA driver" in state.run_reason and "machine with one" in state.run_fix


@pytest.mark.usefixtures("no_gpu")
def test_opening_without_a_gpu_exits_with_3_in_one_line(tmp_path: Path, build) -> None:
    with pytest.raises(
        UnavailableError, match="expected an NVIDIA GPU for tensorrt-rtx-int8.*no NVIDIA driver"
    ) as error:
        tensorrt_rtx.open(tmp_path, build, OpenOptions())
    assert error.value.exit_status == 3
    assert "\n" not in str(error.value)


def test_with_a_gpu_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_rtx, "installed_version", lambda package: "1.7.1.116")
    monkeypatch.setattr(tensorrt_rtx, "probe", lambda: DeviceState(name="RTX 4090", architecture="sm89", driver="12.8"))
    assert tensorrt_rtx.availability().run


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("float16", {"gpu": "sm90"}, "choose from: sm75"),
        ("float16", {"profile": "batch:4:2:8"}, "min <= opt <= max"),
        ("float16", {"fast": "yes"}, "expected options of tensorrt-rtx.*found fast=yes"),
        ("float16", {"tf32": "maybe"}, "tf32=maybe"),
        ("float32", {"gpu": "sm75,sm86"}, "sm75"),
        ("bfloat16", {"gpu": "sm75"}, "sm75"),
        ("float8", {"gpu": "sm75"}, "expected cards of sm89 or newer for float8, found sm75"),
        ("float8", {"gpu": "sm80,sm86,sm89"}, "found sm80, sm86; leave out what is older"),
        ("int4w", {"gpu": "sm75,sm86"}, "expected cards of sm80 or newer for int4w, found sm75"),
        ("float8", {"float_layers": "float32"}, "float_layers=float16|bfloat16 for float8"),
        ("float16", {"float_layers": "float32"}, "float_layers=float16 for float16"),
        ("int8", {"float_layers": "float32", "gpu": "sm75"}, "int8 with float_layers=float16"),
    ],
)
def test_bad_options_are_found_before_any_work(source, tmp_path: Path, precision, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tensorrt_rtx.build(source, precision, options, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_int8_without_a_quantized_graph_is_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="calibrate first"):
        tensorrt_rtx.build(BuildSource(float_model=None, onnx=tiny.onnx), "int8", {}, tmp_path)


def test_an_asymmetric_graph_is_refused(source, tmp_path: Path) -> None:
    graph = storage.load(source.quantized.path)
    zero = graph.graph.initializers["edgevit.zero_point"]
    zero.const_value = ir.tensor(np.int8(5), name=zero.name)
    storage.save(graph, tmp_path / "asymmetric.onnx")
    quantized = storage.describe(graph, tmp_path / "asymmetric.onnx")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PlanError, match=r"expected zero point 0 \(symmetric\), found 5"):
        tensorrt_rtx.build(BuildSource(float_model=None, onnx=source.onnx, quantized=quantized), "int8", {}, out)


def test_a_dynamic_length_needs_a_profile(source, tmp_path: Path) -> None:
    import msgspec

    text = Signature(
        inputs=(TensorSpec(name="ids", dtype="int64", shape=("batch", "length")),),
        outputs=source.onnx.signature.outputs,
    )
    onnx = msgspec.structs.replace(source.onnx, signature=text)
    with pytest.raises(InputError, match="profile=length:1:128:512"):
        tensorrt_rtx.build(BuildSource(float_model=None, onnx=onnx), "float16", {}, tmp_path)


# --------------------------------------------------------------------------------------- really compiled


@pytest.fixture(scope="module")
def compiled(source, tmp_path_factory):
    """(precision, **options) -> (directory, options used), compiled once each."""
    made: dict[tuple, tuple[Path, dict[str, str]]] = {}

    def make(precision: str, **options: str) -> tuple[Path, dict[str, str]]:
        key = (precision, *sorted(options.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("engine")
            made[key] = (out, tensorrt_rtx.build(source, precision, options, out))
        return made[key]

    return make


CARDS = {"float16": "sm75,sm86,sm89,sm120", "float8": "sm89,sm120"}
LINEAR_ONLY = ("float8", "int4w")
"""Their patch embedding, a convolution, computes in float16."""
ALL_BUT_TURING = "sm86,sm89,sm120"


@needs_wheels
@pytest.mark.parametrize("precision", tensorrt_rtx.precisions)
def test_every_precision_compiles_for_several_cards(compiled, precision: str) -> None:
    gpu = CARDS.get(precision, ALL_BUT_TURING)
    directory, used = compiled(precision, gpu=gpu)
    assert sorted(path.name for path in directory.iterdir()) == sorted([ENGINE, LAYERS, ONNX])
    assert read_header(directory / ENGINE).architectures == tuple(gpu.split(","))
    assert used["gpu"] == gpu and used["profile"] == "batch:1:1:8"
    execution = tensorrt_rtx.compiled(directory)
    assert "not executed" in execution.provider and "(compiled)" in execution.precision
    executed = {layer.name: layer.executed for layer in execution.layers}
    assert len(executed) == 10
    patches = executed.pop("patch_embed.proj")
    assert patches == ("float16" if precision in LINEAR_ONLY else precision)
    assert set(executed.values()) == {precision}
    assert execution.warnings == ()


@needs_wheels
@pytest.mark.parametrize(("precision", "layers"), [("int8", 10), ("float8", 9), ("int4w", 9)])
def test_bfloat16_may_be_around_what_is_narrow(compiled, precision: str, layers: int) -> None:
    _, used = compiled(precision, gpu="sm89", float_layers="bfloat16")
    assert used[f"{precision}_layers"] == f"{layers} of {layers}"


@needs_wheels
def test_every_gemm_of_the_plan_is_compiled_in_int8(compiled, tiny) -> None:
    directory, used = compiled("int8", gpu=ALL_BUT_TURING)
    execution = tensorrt_rtx.compiled(directory)
    assert execution.quantized_requested == execution.quantized_executed == len(tiny.plan.layers)
    assert used["int8_layers"] == "10 of 10"
    assert execution.warnings == ()


@needs_wheels
def test_cards_are_those_that_execute_the_precision(compiled) -> None:
    assert compiled("float8")[1]["gpu"] == "sm89,sm120"
    assert compiled("int4w")[1]["gpu"] == compiled("int8")[1]["gpu"] == "sm80,sm86,sm89,sm120"


@needs_wheels
@pytest.mark.parametrize(("precision", "type_name"), [("float8", "fp8_e4m3"), ("int4w", "int4")])
def test_the_builder_itself_refuses_older_cards(compiled, source, precision: str, type_name: str) -> None:
    """What `check_precision` says first, with the builder's own words behind it."""
    import tensorrt_rtx_bindings

    from edgevit.targets.nvidia.network import NetworkOptions, build_engine
    from edgevit.targets.nvidia.profiles import parse_profile

    directory, _ = compiled(precision)
    signature = source.onnx.signature
    options = NetworkOptions(profile=parse_profile("", signature), architectures=("sm75",))
    with pytest.raises(BuildError, match=f"model contains HW-specific datatypes: {type_name}"):
        build_engine(tensorrt_rtx_bindings, directory / ONNX, signature, options)


def test_float8_without_a_plan_is_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="expected a plan for a float8 build, found none; calibrate first"):
        tensorrt_rtx.build(BuildSource(float_model=None, onnx=tiny.onnx), "float8", {}, tmp_path)


@needs_wheels
def test_turings_missing_int8_convolution_is_named(compiled) -> None:
    directory, used = compiled("int8", gpu="sm75,sm86")
    warnings = tensorrt_rtx.compiled(directory).warnings
    assert warnings == ("patch_embed.proj was asked for in int8 and is compiled as float16",)
    assert used["int8_layers"] == "9 of 10"


@needs_wheels
def test_the_same_input_gives_the_same_bytes(compiled, source, tmp_path: Path) -> None:
    directory, _ = compiled("int8", gpu=ALL_BUT_TURING)
    tensorrt_rtx.build(source, "int8", {"gpu": ALL_BUT_TURING}, tmp_path)
    digests = {hashlib.sha256((place / ENGINE).read_bytes()).hexdigest() for place in (directory, tmp_path)}
    assert len(digests) == 1


@needs_wheels
def test_what_the_compiler_refuses_is_one_line_with_its_reason(source, tmp_path: Path) -> None:
    graph = storage.load(source.onnx.path)
    node = next(node for node in graph.graph if node.op_type == "Gelu")
    node.op_type, node.domain = "Frobnicate", "com.example"
    graph.opset_imports["com.example"] = 1
    storage.save(graph, tmp_path / "odd.onnx")
    out = tmp_path / "out"
    out.mkdir()
    odd = BuildSource(float_model=None, onnx=storage.describe(graph, tmp_path / "odd.onnx"))
    with pytest.raises(BuildError, match="Frobnicate") as error:
        tensorrt_rtx.build(odd, "float32", {}, out)
    assert "\n" not in str(error.value)


@needs_wheels
@pytest.mark.parametrize(
    ("precision", "floor"),
    [("float32", 90.0), ("float16", 45.0), ("bfloat16", 25.0), ("float8", 15.0), ("int8", 15.0), ("int4w", 10.0)],
)
def test_its_numerics_are_simulated_here(compiled, tiny, tmp_path: Path, precision: str, floor: float) -> None:
    directory, _ = compiled(precision, gpu=CARDS.get(precision, ALL_BUT_TURING))
    tensorrt_rtx.simulate(directory, tmp_path / "simulated.onnx")
    with Executor(tiny.onnx.path) as floating, Executor(tmp_path / "simulated.onnx", exact=True) as simulated:
        expected, found = floating.run(tiny.images)["logits"], simulated.run(tiny.images)["logits"]
    assert float(sqnr_db(expected, found)) > floor
