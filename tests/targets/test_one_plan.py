"""One plan, every target: the files each target ships hold the plan's own numbers, not some converter's."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.quantize.scales import quantize
from edgevit.targets import BUILT_IN, get_target, web
from edgevit.targets.base import BuildSource

INT8 = tuple(f"{name}:int8" for name in BUILT_IN if "int8" in get_target(name).precisions)
NARROW = ("openvino:int8d", "openvino:int8w", "litert:int8d", "coreml:int8w")
"""Weights alone are the plan's. Others scale by rules of their own engine: ONNX Runtime's int8d and int8w per block of
inputs, ExecuTorch's int8d as its quantizer has it."""
FLOAT_CONVOLUTIONS = ("onnxruntime:int8", "ort-mobile:int8", "web:int8", "litert:int8d")
"""ONNX Runtime's int8 convolution needs an output scale in the ONNX graph, which this scheme never writes; one dynamic
scale for a whole image is none."""
WITH_OUTPUTS = ("litert:int8", "executorch:int8")
"""Their integer kernels write integers, in the plan's output scale."""
TEXTS = ("openvino:int8", "onnxruntime:int8", "ort-mobile:int8", "litert:int8", "executorch:int8")
"""Those of which an encoder-decoder's files are looked at as bytes; Core ML's in `test_coreml_texts.py`."""
BY_BLOCKS = ("onnxruntime:int8", "ort-mobile:int8")
"""They multiply with a tied table by MatMulNBits: codes 128 higher, and scales of inputs as they come."""
NEEDED = {
    "executorch": "executorch",
    "litert": "ai_edge_litert",
    "coreml": "coremltools",
    "tensorrt-rtx": "tensorrt_rtx_bindings",
}


@pytest.fixture
def shipped(tiny: Any, whole_plan: Any, lowered: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(target) -> every byte of its build of the tiny model, every number of Core ML's, whose scalars are short."""

    def read(target: str) -> bytes:
        name, _, precision = target.partition(":")
        if name in NEEDED and find_spec(NEEDED[name]) is None:
            pytest.skip(f"{NEEDED[name]} is not installed, so it built nothing; pip install 'edgevit[{name}]'")
        if name == "executorch":
            return every_byte(lowered(precision).directory)
        from edgevit.quantize.write_onnx import write_quantized

        (tmp_path / "out").mkdir()
        quantized = write_quantized(tiny.onnx, whole_plan, tmp_path / "quantized.onnx")
        source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx, quantized=quantized, plan=whole_plan)
        monkeypatch.setattr(web, "fetch_runtime", lambda out: None)  # the page's own files hold no number of a plan
        options = {"gpu": "sm89"} if name == "tensorrt-rtx" else {}
        get_target(name).build(source, precision, options, tmp_path / "out")  # type: ignore[arg-type]
        return every_number(tmp_path / "out") if name == "coreml" else every_byte(tmp_path / "out")

    return read


def every_byte(directory: Any) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def every_number(directory: Any) -> bytes:
    """Codes as they are stored, scales widened to float32."""
    from ml_program import open_program

    found = []
    for operation in open_program(directory / "model.mlpackage").operations:
        if operation.op_type == "constexpr_affine_dequantize":
            found += [operation.quantized_data.val.tobytes(), np.asarray(operation.scale.val, np.float32).tobytes()]
        elif operation.op_type in ("quantize", "dequantize"):
            found.append(np.asarray(operation.scale.val, np.float32).tobytes())
    return b"\n".join(found)


def test_every_target_that_takes_the_plan_is_looked_at() -> None:
    """Of the targets that offer int8 none is missing below; a new one is looked at without a change here."""
    names = {target.partition(":")[0] for target in INT8}
    assert names >= {"openvino", "onnxruntime", "ort-mobile", "executorch", "litert", "coreml", "tensorrt", "web"}
    narrow = {f"{name}:{one}" for name in BUILT_IN for one in get_target(name).precisions if one in ("int8d", "int8w")}
    own_rules = {"onnxruntime:int8d", "onnxruntime:int8w", "executorch:int8d"}
    assert narrow - set(NARROW) == own_rules


@pytest.mark.parametrize("target", [*INT8, *NARROW])
def test_scales_and_codes_are_the_plans(target: str, shipped: Any, tiny: Any, whole_plan: Any) -> None:
    content = shipped(target)
    graph = storage.load(tiny.onnx.path)
    weights = {layer.name: layer_weight(graph, layer) for layer in quantizable_layers(graph)}
    held = np.float16 if target.startswith("coreml") else np.float32
    checked = 0
    for entry in whole_plan.layers:
        if entry.kind == "conv" and target in FLOAT_CONVOLUTIONS:
            continue
        scales = np.asarray(entry.weight_scale, held).astype(np.float32)
        assert scales.tobytes() in content, f"{target} ships other weight scales for {entry.name}"
        codes = quantize(weights[entry.name], np.asarray(entry.weight_scale, np.float32), 0, narrow=True)
        stored = {codes.tobytes(), np.ascontiguousarray(codes.T).tobytes()}
        if entry.kind == "linear":
            assert any(one in content for one in stored), f"{target} ships other codes for {entry.name}"
        if target in INT8:
            given = np.float32(held(entry.input_scale))
            assert given.tobytes() in content, f"{target} has another scale at {entry.name}'s input"
        if target in WITH_OUTPUTS:
            made = np.float32(entry.output_scale)
            assert made.tobytes() in content, f"{target} has another scale at {entry.name}'s output"
        checked += 1
    assert checked == len(whole_plan.layers) - (target in FLOAT_CONVOLUTIONS)


@pytest.mark.parametrize("target", TEXTS)
def test_so_they_are_in_a_decoder_and_its_tied_table(
    target: str, sequences: Any, planned: Any, build_with: Any, lowered_texts: Any
) -> None:
    part = "short.decoder"
    name, _, precision = target.partition(":")
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed, so it built nothing; pip install 'edgevit[{name}]'")
    plan, onnx = planned(part)[0], sequences.onnx(part)
    build = lowered_texts(part, precision) if name == "executorch" else build_with(onnx, target, plan)
    content = every_byte(build.directory)
    graph = storage.load(onnx.path)
    weights = {layer.name: layer_weight(graph, layer) for layer in quantizable_layers(graph)}
    assert "decoder.embed.weight" in [entry.name for entry in plan.layers]
    for entry in plan.layers:
        scales = np.asarray(entry.weight_scale, np.float32)
        assert scales.tobytes() in content, f"{target} ships other weight scales for {entry.name}"
        codes = quantize(weights[entry.name], scales, 0, narrow=True)
        by_blocks = entry.name == "decoder.embed.weight" and target in BY_BLOCKS
        stored = {codes.tobytes(), np.ascontiguousarray(codes.T).tobytes()}
        if by_blocks:
            stored = {(codes.astype(np.int16) + 128).astype(np.uint8).tobytes()}
        assert any(one in content for one in stored), f"{target} ships other codes for {entry.name}"
        if entry.kind == "linear" and not by_blocks:
            assert np.float32(entry.input_scale).tobytes() in content, f"{target} reads {entry.name}'s input otherwise"
        if entry.kind == "linear" and target in WITH_OUTPUTS:
            assert np.float32(entry.output_scale).tobytes() in content, f"{target} writes {entry.name} otherwise"
