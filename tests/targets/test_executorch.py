"""ExecuTorch: what it lowers, what XNNPACK takes of it, and what its own runtime makes of the file here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import executorch, get_target, parse_target
from edgevit.targets.base import Availability, BuildSource, ClosedSession, OpenOptions
from edgevit.targets.delegation import read_delegation
from edgevit.types import FloatModel, OnnxModel, Signature, TensorSpec

needs_executorch = pytest.mark.skipif(
    find_spec("executorch") is None,
    reason="ExecuTorch is not installed, so nothing was lowered or executed; pip install 'edgevit[executorch]'",
)
FLOORS = {"float32": 100, "int8": 15, "int8d": 20, "int4d": 8}


# ----------------------------------------------------------------------------------------- without the wheel


def test_it_is_found_by_its_name() -> None:
    assert get_target("executorch") is executorch
    assert parse_target("executorch:int8d") == ("executorch", "int8d")


def test_without_the_wheel_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch, "installed_version", lambda *names: None)
    command = "pip install 'edgevit[executorch]'"
    assert executorch.availability() == Availability(build=False, run=False, build_fix=command, run_fix=command)


def test_building_without_the_wheel_exits_with_3(tiny: Any, tmp_path: Any, without_package: Any) -> None:
    without_package("executorch")
    with pytest.raises(UnavailableError, match=r"'executorch', which is not installed.*edgevit\[executorch\]"):
        executorch.build(BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx), "float32", {}, tmp_path)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"threads": "2"}, "threads=2"),
        ({"max_batch": "many"}, "max_batch=many"),
        ({"max_batch": "1"}, "give at least 2"),
        ({"batch": "0"}, "give at least 1"),
        ({"batch": "2", "max_batch": "4"}, "leave one out"),
        ({"min_delegated": "95%"}, "min_delegated=95%"),
        ({"min_delegated": "1.5"}, "min_delegated=1.5"),
        ({"min_delegated": "nan"}, "min_delegated=nan"),
    ],
)
def test_bad_options_are_found_before_any_work(tiny: Any, tmp_path: Any, options: Any, found: str) -> None:
    source = BuildSource(float_model=lambda: pytest.fail("loaded"), onnx=tiny.onnx)
    with pytest.raises(InputError, match=f"expected options of executorch.*found {found}|{found}"):
        executorch.build(source, "float32", options, tmp_path)


@needs_executorch
def test_a_model_that_came_as_onnx_is_refused(tiny: Any, tmp_path: Any) -> None:
    model = msgspec.structs.replace(tiny.model, module=None, onnx=tiny.onnx.path)
    with pytest.raises(InputError, match="expected a PyTorch model for executorch.*build ort-mobile"):
        executorch.build(BuildSource(float_model=lambda: model, onnx=tiny.onnx), "float32", {}, tmp_path)


@needs_executorch
def test_int8_needs_a_plan(tiny: Any, tmp_path: Any) -> None:
    with pytest.raises(BuildError, match="executorch:int8, found none; calibrate first"):
        executorch.build(BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx), "int8", {}, tmp_path)


# -------------------------------------------------------------------------------------------- right results


@needs_executorch
@pytest.mark.parametrize("precision", executorch.precisions)
def test_it_computes_what_the_model_computes(precision: str, lowered: Any, tiny: Any, reference: Any) -> None:
    session = lowered(precision).open()
    found = session.run(tiny.images)["logits"]
    assert found.dtype == np.float32
    assert sqnr_db(reference, found) > FLOORS[precision]
    assert precision == "float32" or sqnr_db(reference, found) < 60, "it is quantized"


@needs_executorch
def test_int8_computes_what_the_torch_writer_simulates(lowered: Any, tiny: Any, whole_plan: Any) -> None:
    import torch

    from edgevit.graph.capture import CaptureOptions, capture
    from edgevit.quantize.write_torch import write_plan

    module: Any = capture(tiny.model, CaptureOptions()).module(check_guards=False)
    write_plan(module, tiny.onnx, whole_plan)
    pixels = tiny.images["pixel_values"][:8]
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels)).numpy()
    found = lowered("int8").open().run({"pixel_values": pixels})["logits"]
    # Its outputs are eight bits wide too: a code that tips costs more than in an engine with float outputs.
    assert sqnr_db(expected, found) > 25


@needs_executorch
@pytest.mark.parametrize("precision", executorch.precisions)
@pytest.mark.parametrize("batch", [1, 2, 8, 11])
def test_every_batch_gives_each_image_its_own_result(precision: str, batch: int, lowered: Any, tiny: Any) -> None:
    """Also one beyond the largest that memory is planned for."""
    session = lowered(precision).open()
    images = tiny.images["pixel_values"]
    expected = np.concatenate([session.run({"pixel_values": images[i : i + 1]})["logits"] for i in range(batch)])
    found = session.run({"pixel_values": images[:batch]})["logits"]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@needs_executorch
def test_arrays_of_any_layout_and_results_of_the_callers_own(lowered: Any, tiny: Any) -> None:
    session = lowered("float32").open()
    pixels = tiny.images["pixel_values"][:4]
    mirrored = pixels[:, :, :, ::-1]
    expected = session.run({"pixel_values": np.ascontiguousarray(mirrored)})["logits"]
    kept = expected.copy()
    fixed = mirrored.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(session.run({"pixel_values": fixed})["logits"], kept)
    np.testing.assert_array_equal(session.run({"pixel_values": mirrored})["logits"], kept)
    session.run({"pixel_values": pixels})
    np.testing.assert_array_equal(expected, kept)


@needs_executorch
@pytest.mark.parametrize("streams", [1, 3])
def test_threads_get_the_results_of_one(streams: int, lowered: Any, tiny: Any) -> None:
    session = lowered("int8").open(streams=streams)
    images = tiny.images["pixel_values"]
    expected = [session.run({"pixel_values": images[i : i + 1]})["logits"] for i in range(8)]

    def call(index: int) -> np.ndarray:
        return session.run({"pixel_values": images[index : index + 1]})["logits"]

    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(call, list(range(8)) * 5)):
            np.testing.assert_array_equal(found, expected[index % 8])


@needs_executorch
def test_after_close_it_says_so(lowered: Any, tiny: Any) -> None:
    session = lowered("float32").open()
    session.close()
    session.close()
    with pytest.raises(ClosedSession, match="executorch-float32 already closed"):
        session.run(tiny.batches[0])


@needs_executorch
def test_another_number_of_threads_would_leave_open_methods_a_dead_pool(lowered: Any) -> None:
    lowered("float32").open(threads=1)
    with pytest.raises(InputError, match="the 1 threads that ExecuTorch has in this process already, found 3"):
        lowered("float32").open(threads=3)


@needs_executorch
def test_a_fixed_batch_is_planned_as_it_is(make_vit: Any, lower_model: Any, tmp_path: Any) -> None:
    model = make_vit(depth=1)
    spec = msgspec.structs.replace(model.signature.inputs[0], shape=(2, *model.signature.inputs[0].shape[1:]))
    fixed = msgspec.structs.replace(model, signature=msgspec.structs.replace(model.signature, inputs=(spec,)), depth=1)
    onnx = lower_model(fixed, tmp_path / "fixed.onnx", batch=2)
    out = tmp_path / "out"
    out.mkdir()
    used = executorch.build(BuildSource(float_model=lambda: fixed, onnx=onnx), "float32", {}, out)
    assert used["batch"] == "2" and "max_batch" not in used
    reasons = {one.reason for one in read_delegation(out).fallbacks}
    assert "its shape depends on that of the inputs" not in reasons


@needs_executorch
def test_a_batch_asked_for_is_the_only_one(lowered: Any, tiny: Any, tmp_path: Any) -> None:
    source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx)
    used = executorch.build(source, "float32", {"batch": "2"}, tmp_path)
    build = msgspec.structs.replace(lowered("float32").build, options=used)
    images = tiny.images["pixel_values"][:4]
    session = executorch.open(tmp_path, build, OpenOptions())
    try:
        pieces = [session.run({"pixel_values": images[at : at + 2]})["logits"] for at in (0, 2)]
        np.testing.assert_array_equal(session.run({"pixel_values": images})["logits"], np.concatenate(pieces))
        with pytest.raises(InputError, match=r"multiple of the batch 2 .*found 3 samples; export it with another"):
            session.run({"pixel_values": images[:3]})
    finally:
        session.close()
    with pytest.raises(InputError, match=r"the batch 2 that the model was traced with for executorch, found batch=3"):
        executorch.build(_traced_with(2, source), "float32", {"batch": "3"}, tmp_path)


def _traced_with(batch: int, source: BuildSource) -> BuildSource:
    """As if the source's graph had been made for one batch."""
    replace = msgspec.structs.replace
    spec = source.onnx.signature.inputs[0]
    fixed = replace(source.onnx.signature, inputs=(replace(spec, shape=(batch, *spec.shape[1:])),))
    return replace(source, onnx=replace(source.onnx, signature=fixed))


# ----------------------------------------------------------------------------------------------- delegation


@needs_executorch
@pytest.mark.parametrize("precision", executorch.precisions)
def test_the_report_counts_what_is_delegated(precision: str, lowered: Any, tiny: Any) -> None:
    build = lowered(precision)
    delegation = read_delegation(build.directory)
    tokens, width, blocks = 17, 32, 2
    block = tokens * width * width * (3 + 1 + 2 + 2) + 2 * tokens * tokens * width
    assert delegation.macs == blocks * block + 16 * width * 3 * 64 + width * 10
    assert delegation.share_of_macs == 1
    assert 0.3 < delegation.share_of_operators < 1
    left = {one.operator: one for one in delegation.fallbacks}
    assert left["native_layer_norm"].count == 2 * blocks + 1
    assert left["native_layer_norm"].reason == "no kernel of the delegate takes it"
    assert left["slice_copy"].reason == "its shape depends on that of the inputs"
    assert not [name for name in left if "quantize" in name], "an integer kernel swallows its Q/DQ"
    assert delegation.summary() == build.build.options["delegated"]


@needs_executorch
def test_every_layer_of_the_plan_is_executed_in_int8(lowered: Any, tiny: Any) -> None:
    execution = lowered("int8").open().execution()
    planned = {entry.name.removesuffix(".weight") for entry in tiny.plan.layers}
    assert {layer.name for layer in execution.layers if layer.executed == "int8"} == planned
    assert execution.quantized_requested == execution.quantized_executed == len(planned) == 10
    assert (execution.precision, execution.warnings) == ("int8", ())
    assert execution.provider.startswith("XNNPACK: 100.0 % of multiply-accumulates")
    dynamic = lowered("int8d").open().execution()
    assert {layer.name for layer in dynamic.layers if layer.executed == "int8"} == planned - {"patch_embed.proj"}
    assert dynamic.quantized_requested == dynamic.quantized_executed == len(planned) - 1, "no convolution was asked for"
    assert dynamic.warnings == ()
    four = lowered("int4d").open().execution()
    narrow = {layer.name for layer in four.layers if layer.executed == "int4"}
    assert narrow == planned - {"patch_embed.proj"} and (four.precision, four.warnings) == ("int4", ())
    plain = lowered("float32").open().execution()
    assert (plain.precision, plain.quantized_requested) == ("float32", 0)
    assert {layer.name for layer in plain.layers} == planned


@pytest.fixture(scope="module")
def volumetric() -> tuple[FloatModel, OnnxModel]:
    """A model whose convolution has three spatial dimensions, which XNNPACK does not take."""
    import torch

    class Volumetric(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.volume = torch.nn.Conv3d(1, 4, 3)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.volume(x.unsqueeze(1)).mean((2, 3, 4)))

    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 5, 6, 6)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 2)),),
    )
    model = FloatModel(
        name="volumetric",
        module=Volumetric().eval().requires_grad_(False),
        signature=signature,
        task="image-features",
        preprocess=None,  # type: ignore[arg-type]
        labels=(),
        trained=False,
    )
    return model, OnnxModel(path=None, signature=signature, opset=23, digest="")  # type: ignore[arg-type]


@needs_executorch
def test_too_little_delegated_is_a_build_error_that_says_what_and_why(volumetric: Any, tmp_path: Any) -> None:
    model, onnx = volumetric
    source = BuildSource(float_model=lambda: model, onnx=onnx)
    with pytest.raises(BuildError) as caught:
        executorch.build(source, "float32", {"min_delegated": "0.95"}, tmp_path)
    message = str(caught.value)
    assert caught.value.exit_status == 1 and "\n" not in message
    assert message.startswith(
        "expected at least 95 % of executorch:float32's multiply-accumulates in XNNPACK, found 0."
    )
    assert "1 convolution (Only support 1D + 2D Conv)" in message
    assert list(tmp_path.iterdir()) == []
    used = executorch.build(source, "float32", {"min_delegated": "0"}, tmp_path)
    assert used["delegated"].startswith("0.")
    (worst, *_) = read_delegation(tmp_path).fallbacks
    assert (worst.operator, worst.macs) == ("convolution", 3 * 4 * 4 * 4 * 27)


def test_the_command_line_demands_a_share(inside: Any, tmp_path: Any) -> None:
    done = inside("export", "zoo:digits-vit", tmp_path / "out", "-t", "onnxruntime", "--min-delegated", "0.95")
    assert done.status == 2
    assert "expected a target executorch or litert for --min-delegated 0.95, found onnxruntime" in done.complaint


# ---------------------------------------------------------------------------------------------- what is wrong


def damaged(build: Any, directory: Any, change: Any) -> Any:
    shutil.copytree(build.directory, directory)
    path = directory / "model.pte"
    path.write_bytes(change(path.read_bytes()))
    return type(build)(directory, build.build)


@needs_executorch
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "found no identifier"),
        (lambda content: content[:30], r"bytes of .* by its own header, found 30"),
        (lambda content: content[: len(content) // 2], "by its own header"),
        (lambda content: content[:-1], "by its own header"),
        (lambda content: b"not a program" * 99, "it is damaged or no .pte file"),
        (lambda content: content[:4] + b"TFL3" + content[8:], "found 'TFL3'"),
        (lambda content: content[:4] + b"ET11" + content[8:], "found schema ET11; it needs another version"),
        (lambda content: content[:64] + bytes(len(content) - 64), "to open in ExecuTorch"),
    ],
)
def test_damaged_and_foreign_programs_are_one_line(lowered: Any, tmp_path: Any, change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        damaged(lowered("float32"), tmp_path / "copy", change).open()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "export it again" in str(caught.value)


@needs_executorch
def test_a_missing_report_is_said_when_it_is_asked_for(lowered: Any, tmp_path: Any) -> None:
    copy = damaged(lowered("float32"), tmp_path / "copy", lambda content: content)
    (tmp_path / "copy" / "delegation.json").write_text("{}")
    session = copy.open()
    with pytest.raises(BundleError, match="expected a delegation report at .*export it again"):
        session.execution()
    (tmp_path / "copy" / "delegation.json").unlink()
    with pytest.raises(BundleError, match="which cannot be read"):
        session.execution()


@needs_executorch
def test_opening_writes_nothing_to_the_terminal(lowered: Any, tiny: Any, capfd: Any) -> None:
    lowered("float32").open().run(tiny.batches[0])
    assert capfd.readouterr() == ("", "")


@needs_executorch
def test_importing_it_writes_nothing_to_the_terminal(repository: Any) -> None:
    code = "from edgevit.targets.xnnpack.session import import_executorch; import_executorch()"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
