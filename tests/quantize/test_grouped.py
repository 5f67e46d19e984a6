"""Convolutions in groups stay in float, and the plan says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.planner import make_plan


def test_a_depthwise_convolution_stays_in_float(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "dense.weight": rng.normal(size=(32, 3, 3, 3)).astype(np.float32),
        "depthwise.weight": rng.normal(size=(32, 1, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "dense.weight"], ["h"], name="dense"),
        helper.make_node("Conv", ["h", "depthwise.weight"], ["y"], name="depthwise", group=32),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    loaded = storage.load(path)
    assert [layer.groups for layer in quantizable_layers(loaded)] == [1, 32]
    model = storage.describe(loaded, path)
    batches = [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)}]
    stats = calibrate(model, batches, CalibrationOptions(set_name="noise", set_digest="0"))
    plan = make_plan(model, stats)
    assert [layer.name for layer in plan.layers] == ["dense.weight"]
    assert [(layer.name, layer.reason) for layer in plan.skipped] == [("depthwise.weight", "a convolution in groups")]
