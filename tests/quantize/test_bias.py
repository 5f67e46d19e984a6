"""Bias correction: the mean error of each layer, on the inputs that the quantized model really has."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.quantize.adjust import EXPLICIT
from edgevit.quantize.bias import correct_bias
from edgevit.quantize.scales import fake_quantize
from edgevit.quantize.simulate import simulated_sqnr
from edgevit.quantize.write_onnx import write_quantized

HEAD = "head.weight"


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(5)
    return [{"pixel_values": (rng.normal(size=(16, 3, 32, 32)) + 0.5).astype(np.float32)} for _ in range(4)]


def coarse(plan, times):
    """Weights in fewer codes: their mean errors are then large."""
    layers = [
        msgspec.structs.replace(entry, weight_scale=tuple(scale * times for scale in entry.weight_scale))
        if entry.kind == "linear"
        else entry
        for entry in plan.layers
    ]
    return msgspec.structs.replace(plan, layers=tuple(layers))


def by_name(plan):
    return {entry.name: entry for entry in plan.layers}


def test_outputs_come_closer_to_float_and_nothing_else_changes(tiny, batches):
    plan = coarse(tiny.plan, 6)
    corrected = correct_bias(tiny.onnx, plan, batches)
    gained = simulated_sqnr(tiny.onnx, corrected, batches[2:]) - simulated_sqnr(tiny.onnx, plan, batches[2:])
    assert gained > 1
    for entry in corrected.layers:
        assert (len(entry.bias_correction) > 0) == (entry.kind == "linear")
    without = [msgspec.structs.replace(entry, bias_correction=()) for entry in corrected.layers]
    assert msgspec.structs.replace(corrected, layers=tuple(without)) == plan


def test_the_correction_is_the_layers_mean_error_on_quantized_inputs(tiny, batches, run_model, tmp_path):
    """W E[x] - Ŵ E[x̂], with x from the simulated model and only the first half of the batches."""
    plan = coarse(tiny.plan, 6)
    quantized = write_quantized(tiny.onnx, plan, tmp_path / "q.onnx")
    graph = storage.load(tiny.onnx.path)
    layer = next(layer for layer in quantizable_layers(graph) if layer.name == HEAD)
    seen = {"pixel_values": np.concatenate([batch["pixel_values"] for batch in batches[:2]])}
    x = run_model(quantized.path, seen, layer.input)[layer.input].astype(np.float64)
    entry, weight = by_name(plan)[HEAD], layer_weight(graph, layer)
    codes = fake_quantize(weight, entry.weight_scale, 0, narrow=True)
    expected = weight @ x.mean(axis=0) - codes @ fake_quantize(x, entry.input_scale).mean(axis=0)
    found = by_name(correct_bias(tiny.onnx, plan, batches))[HEAD].bias_correction
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_what_does_not_help_is_left_out(tiny, batches):
    """Corrections fitted to one image of another world make the second half worse."""
    odd = {"pixel_values": np.full((1, 3, 32, 32), 30, np.float32)}
    plan = coarse(tiny.plan, 6)
    assert correct_bias(tiny.onnx, plan, [odd, batches[0]]) == plan


def test_one_batch_cannot_be_split(tiny):
    assert correct_bias(tiny.onnx, tiny.plan, tiny.batches[:1]) == tiny.plan


def test_it_measures_behind_the_equalization(tiny, batches):
    plan = coarse(tiny.plan, 6)
    factors = tuple(float(value) for value in np.exp2(np.linspace(-1, 1, 64)).astype(np.float32))
    fc2 = "blocks.1.mlp.fc2.weight"
    layers = [
        msgspec.structs.replace(entry, equalization=factors, equalization_into=EXPLICIT) if entry.name == fc2 else entry
        for entry in plan.layers
    ]
    equalized = msgspec.structs.replace(plan, layers=tuple(layers))
    corrected = correct_bias(tiny.onnx, equalized, batches)
    before, after = (simulated_sqnr(tiny.onnx, each, batches[2:]) for each in (equalized, corrected))
    assert after > before + 1


SHARED = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 8] x) => (float[n, 8] y) {
    r = Relu(x)
    p = MatMul(r, w1)
    q = MatMul(r, w2)
    y = Add(p, q)
}
"""


def test_layers_behind_one_multiplication_are_both_corrected(write_graph, entry, plan_of):
    """The product is named after the first of them; the second reads it as well."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 8, 8)).astype(np.float32)
    model = write_graph(SHARED, w1=weights[0].T, w2=weights[1].T)
    factors = {"equalization": (2.0,) * 8, "equalization_into": EXPLICIT}
    entries = [entry(f"w{i + 1}", weight * 2, 1.0, **factors) for i, weight in enumerate(weights)]
    plan = coarse(plan_of(*entries), 8)
    batches = [{"x": rng.uniform(1, 2, size=(64, 8)).astype(np.float32)} for _ in range(4)]
    corrected = by_name(correct_bias(model, plan, batches))
    assert np.abs(corrected["w1"].bias_correction).max() > 0.01
    assert np.abs(corrected["w2"].bias_correction).max() > 0.01
    assert simulated_sqnr(model, plan, batches) < simulated_sqnr(
        model, msgspec.structs.replace(plan, layers=tuple(corrected.values())), batches
    )


@pytest.mark.parametrize("batches", [(), ({},)])
def test_too_few_batches_change_nothing(batches, tiny):
    assert correct_bias(tiny.onnx, tiny.plan, batches) is tiny.plan
