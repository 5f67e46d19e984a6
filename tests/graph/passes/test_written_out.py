"""RMSNormalization and RotaryEmbedding in older operators: the same numbers, and gone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.graph.passes.written_out import written_out


def test_a_root_mean_square_norm() -> None:
    scale = np.linspace(0.5, 2, 8, dtype=np.float32)
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"], name="norm", epsilon=1e-3)
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    found, kinds = both([node], {"x": x}, [numpy_helper.from_array(scale, "scale")])
    expected = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert "RMSNormalization" not in kinds


def test_rotated_halves_with_one_cosine_for_all_rows() -> None:
    """ONNX Runtime refuses this very node: its cosines have the batch 1."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 2, 5, 8)).astype(np.float32)
    angles = random.normal(size=(1, 5, 4)).astype(np.float32)
    node = helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["y"], name="rotary")
    tables = [
        numpy_helper.from_array(table, name) for table, name in ((np.cos(angles), "cos"), (np.sin(angles), "sin"))
    ]
    found, kinds = both([node], {"x": x}, tables)
    a, b = x[..., :4], x[..., 4:]
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    np.testing.assert_allclose(found, np.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1), rtol=1e-5)
    assert "RotaryEmbedding" not in kinds


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=1),
        helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["y"], interleaved=1),
    ],
)
def test_other_forms_are_left_alone(node: onnx.NodeProto) -> None:
    shapes = {"scale": (2, 5, 8), "cos": (3, 5, 4), "sin": (3, 5, 4)}
    values = [numpy_helper.from_array(np.ones(shapes[name], np.float32), name) for name in node.input if name in shapes]
    model = ir.serde.deserialize_model(graph([node], (3, 2, 5, 8), values))
    assert written_out(model) == 0


def graph(nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    content = helper.make_graph(nodes, "g", inputs, outputs, constants)
    made = helper.make_model(content, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    return onnx.shape_inference.infer_shapes(made)


def both(
    nodes: list[onnx.NodeProto], inputs: dict[str, np.ndarray], constants: list[onnx.TensorProto]
) -> tuple[np.ndarray, set[str]]:
    """The written-out graph's output in ONNX Runtime at opset 21, and its operators."""
    import onnxruntime

    model = ir.serde.deserialize_model(graph(nodes, inputs["x"].shape, constants))
    for value in model.graph.initializers.values():
        value.shape = ir.Shape(value.const_value.numpy().shape)
    assert written_out(model) == 1
    model.graph.opset_imports[""] = 21
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], inputs)[0], {node.op_type for node in model.graph}
