"""Weights made to overflow: safe scales give the simulated result on every processor, others only with VNNI."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.quantize.saturation import pair_safe_scales, seven_bit_scales
from edgevit.types import LayerPlan, QuantPlan

LINEAR = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 64] x) => (float[n, 32] y) { y = MatMul(x, w) }
"""
CONV = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 16, 8, 8] x) => (float[n, 32, 2, 2] y) { y = Conv<strides = [4, 4]>(x, w) }
"""


def weights(rows, columns):
    """Rows of largest codes: of one sign, of alternating pairs, and at random."""
    random = np.random.default_rng(0).choice(np.float32([-1, 1]), (rows, columns))
    random[0], random[1], random[2] = 1, -1, np.tile([1, 1, -1, -1], columns // 4)
    return random


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    """(kind) -> a model of one layer, its weight as a matrix, and inputs at the end of their range."""
    import onnx
    import onnx_ir as ir

    from edgevit.graph import storage

    def make(kind):
        matrix = weights(32, 64) if kind == "linear" else weights(32, 256)
        stored = matrix.T if kind == "linear" else matrix.reshape(32, 16, 4, 4)
        model = onnx.parser.parse_model(LINEAR if kind == "linear" else CONV)
        model.graph.node[0].name = "w"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(stored), "w"))
        graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
        path = tmp_path_factory.mktemp(kind) / "layer.onnx"
        storage.save(graph, path)
        shape = (16, 64) if kind == "linear" else (4, 16, 8, 8)
        x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        x[0] = 1
        return storage.describe(graph, path), matrix, {"x": x}

    return make


def plan(kind, matrix, scale):
    steps = tuple(float(step) for step in scale(matrix, np.abs(matrix).max(axis=1) / np.float32(127)))
    entry = LayerPlan(name="w", kind=kind, input_scale=float(np.float32(1 / 127)), weight_scale=steps)
    return QuantPlan(model="", model_digest="", layers=(entry,))


def run_both(wanted, model, wish, inputs, build_with, tmp_path):
    from edgevit.graph.execute import Executor
    from edgevit.quantize.write_onnx import write_quantized

    written = write_quantized(model, wish, tmp_path / "q.onnx")
    with Executor(written.path, exact=True) as executor:
        simulated = executor.run(inputs)["y"]
    session = build_with(model, wanted, wish).open()
    executed = session.run(inputs)["y"]
    kinds = {layer.executed for layer in session.execution().layers}
    session.close()
    return simulated, executed, kinds


@pytest.mark.parametrize(
    ("wanted", "kind"), [("openvino:int8", "linear"), ("openvino:int8", "conv"), ("onnxruntime:int8", "linear")]
)
def test_safe_scales_give_the_simulated_result(wanted, kind, layer, build_with, tmp_path):
    model, matrix, inputs = layer(kind)
    safe = plan(kind, matrix, pair_safe_scales if kind == "linear" else seven_bit_scales)
    simulated, executed, kinds = run_both(wanted, model, safe, inputs, build_with, tmp_path)
    assert kinds == {"int8"}
    np.testing.assert_allclose(executed, simulated, rtol=1e-3, atol=1e-3 * np.abs(simulated).max())


@pytest.mark.parametrize("wanted", ["openvino:int8", "onnxruntime:int8"])
def test_other_scales_overflow_where_there_is_no_vnni(wanted, layer, build_with, tmp_path, vnni):
    if vnni:
        pytest.skip("this processor adds int8 products in 32 bits: nothing overflows")
    model, matrix, inputs = layer("linear")
    unsafe = plan("linear", matrix, lambda weight, scale: scale)
    simulated, executed, _ = run_both(wanted, model, unsafe, inputs, build_with, tmp_path)
    assert np.abs(executed - simulated).max() > 0.1 * np.abs(simulated).max()
