"""Copies of all weights that nobody needs at once are not made: counted in bytes that NumPy holds, not in time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.quantize import simulate
from edgevit.quantize.adjust import adjust_weights
from edgevit.quantize.choose import choose_plan
from edgevit.quantize.planner import PlanOptions
from edgevit.quantize.write_onnx import write_quantized

LAYERS, WIDTH = 32, 256
WEIGHT = 4 * WIDTH * WIDTH


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry, plan_of):
    """Wide linear layers, each behind a norm, with the weights beside the graph; and a plan that equalizes all."""
    import onnx
    import onnx_ir as ir

    nodes, tensors, entries = [], [], []
    random = np.random.default_rng(0)
    for index in range(LAYERS):
        ones = onnx.numpy_helper.from_array(np.ones(WIDTH, np.float32), f"{index}.norm.weight")
        weight = random.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 16
        tensors += [ones, onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), f"{index}.fc.weight")]
        source, target = "x" if index == 0 else f"h{index}", "y" if index == LAYERS - 1 else f"h{index + 1}"
        normed = f"n{index}"
        nodes.append(onnx.helper.make_node("LayerNormalization", [source, ones.name], [normed], name=f"{index}.norm"))
        nodes.append(onnx.helper.make_node("MatMul", [normed, f"{index}.fc.weight"], [target], name=f"{index}.fc"))
        factors = {"equalization": (2.0,) * WIDTH, "equalization_into": f"{index}.norm"}
        entries.append(entry(f"{index}.fc.weight", weight * 2, 4.0, **factors))
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", WIDTH]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "wide", values[:1], values[1:], tensors)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    storage.save(model, tmp_path / "wide.onnx")
    return storage.describe(model, tmp_path / "wide.onnx"), plan_of(*entries)


def peak_of(function, *arguments) -> int:
    """Bytes that Python and NumPy held at most while `function` ran."""
    function(*arguments)  # imports and caches are not its own
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_weights_are_adjusted_one_at_a_time(wide, tmp_path):
    model, plan = wide

    def adjusted() -> None:
        graph = storage.load(model.path)
        adjust_weights(graph, plan)
        storage.save(graph, tmp_path / "adjusted.onnx")

    assert peak_of(adjusted) < 5 * WEIGHT < LAYERS * WEIGHT / 2
    np.testing.assert_array_equal(
        storage.load(tmp_path / "adjusted.onnx").graph.initializers["3.fc.weight"].const_value.numpy(),
        storage.load(model.path).graph.initializers["3.fc.weight"].const_value.numpy() * 2,
    )


def test_writing_a_quantized_graph_holds_its_codes_and_no_float_copy(wide, tmp_path):
    model, plan = wide
    assert peak_of(write_quantized, model, plan, tmp_path / "q.onnx") < 0.75 * LAYERS * WEIGHT


def test_the_float_model_runs_once_and_the_plan_once(tiny, stats_of_tiny, monkeypatch):
    """Choosing and correcting share what they execute."""
    opened = []

    class Counted(simulate.Executor):
        def __init__(self, path, taps=(), *, exact=False, **settings):
            opened.append("simulated" if exact else "float")
            super().__init__(path, taps, exact=exact, **settings)

    monkeypatch.setattr(simulate, "Executor", Counted)
    choose_plan(tiny.onnx, stats_of_tiny, PlanOptions(equalize=frozenset()), tiny.batches)
    assert sorted(opened) == ["float", "simulated", "simulated"], "the plan, and the plan corrected"


@pytest.fixture
def stats_of_tiny(tiny):
    from edgevit.quantize.calibrate import CalibrationOptions, calibrate

    return calibrate(tiny.onnx, tiny.batches, CalibrationOptions(set_name="s", set_digest="1" * 64, rows=64, bins=256))
