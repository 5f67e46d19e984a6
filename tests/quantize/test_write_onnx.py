"""The plan as Q/DQ: on inputs and weights, nowhere else, and it computes what fake quantization computes."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.quantize.scales import fake_quantize
from edgevit.quantize.simulate import simulated_sqnr
from edgevit.quantize.write_onnx import WriteOptions, write_quantized

RNG = np.random.default_rng(0)
LINEAR = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 8] x) => (float[n, 6] y) {
    p = MatMul(x, w)
    y = Add(p, b)
}
"""
CONV = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 3, 8, 8] x) => (float[n, 5, 2, 2] y) { y = Conv<strides = [4, 4]>(x, w, b) }
"""


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_linear_layer_computes_fake_quantization(write_graph, run_model, entry, plan_of, tmp_path):
    weight, bias = RNG.normal(size=(6, 8)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    model = write_graph(LINEAR, w=weight.T, b=bias)
    planned = entry("w", weight, 2.0)
    quantized = write_quantized(model, plan_of(planned), tmp_path / "q.onnx")
    x = RNG.normal(size=(32, 8)).astype(np.float32) * 2  # some are clipped
    expected = (
        fake_quantize(x, planned.input_scale) @ fake_quantize(weight, planned.weight_scale, 0, narrow=True).T + bias
    )
    found = run_model(quantized.path, {"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - (x @ weight.T + bias)).max() > 0.02, "nothing was quantized"


def test_a_convolution_computes_fake_quantization(write_graph, run_model, entry, plan_of, tmp_path):
    torch = pytest.importorskip("torch")
    weight, bias = RNG.normal(size=(5, 3, 4, 4)).astype(np.float32), RNG.normal(size=5).astype(np.float32)
    model = write_graph(CONV, w=weight, b=bias)
    planned = entry("w", weight, 2.0)
    quantized = write_quantized(model, plan_of(planned), tmp_path / "q.onnx")
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    x_hat = torch.fake_quantize_per_tensor_affine(torch.tensor(x), planned.input_scale, 0, -128, 127)
    scales, zeros = torch.tensor(planned.weight_scale), torch.zeros(5, dtype=torch.int32)
    w_hat = torch.fake_quantize_per_channel_affine(torch.tensor(weight), scales, zeros, 0, -127, 127)
    expected = torch.nn.functional.conv2d(x_hat, w_hat, torch.tensor(bias), stride=4).numpy()
    np.testing.assert_allclose(run_model(quantized.path, {"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_a_whole_model_is_quantized_on_inputs_and_weights_only(tiny, tmp_path):
    quantized = write_quantized(tiny.onnx, tiny.plan, tmp_path / "q.onnx")
    onnx.checker.check_model(str(quantized.path), full_check=True)
    assert quantized.signature == tiny.onnx.signature
    graph = storage.load(quantized.path)
    down = [node for node in graph.graph if node.op_type == "QuantizeLinear"]
    up = [node for node in graph.graph if node.op_type == "DequantizeLinear"]
    assert (len(down), len(up)) == (10, 20)
    outputs = {layer.output for layer in quantizable_layers(storage.load(tiny.onnx.path))}
    for node in down:
        assert node.inputs[0].name not in outputs, "an output is quantized"
    for node in up:
        (use,) = node.outputs[0].uses()
        assert (use.node.op_type, use.idx) in {("MatMul", 0), ("MatMul", 1), ("Conv", 0), ("Conv", 1)}
    for layer in quantizable_layers(storage.load(tiny.onnx.path)):
        codes = graph.graph.initializers[f"{layer.name}.int8"].const_value.numpy()
        assert codes.dtype == np.int8
        assert codes.min() >= -127
        assert layer.name not in graph.graph.initializers, "the float weight is still in the file"


def test_the_same_plan_gives_the_same_file(tiny, tmp_path):
    first = write_quantized(tiny.onnx, tiny.plan, tmp_path / "a.onnx")
    second = write_quantized(tiny.onnx, tiny.plan, tmp_path / "b.onnx")
    assert first.digest == second.digest != tiny.onnx.digest


SHARED = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[n, 4] x) => (float[n, 4] y) {
    r = Relu(x)
    p = MatMul(r, w1)
    q = MatMul(r, w2)
    y = Add(p, q)
}
"""


def test_layers_that_share_an_input_share_its_pair(write_graph, entry, plan_of, run_model, tmp_path):
    weights = RNG.normal(size=(2, 4, 4)).astype(np.float32)
    model = write_graph(SHARED, w1=weights[0].T, w2=weights[1].T)
    one = plan_of(entry("w1", weights[0], 3.0), entry("w2", weights[1], 3.0))
    together = write_quantized(model, one, tmp_path / "together.onnx")
    assert operators(together.path).count("QuantizeLinear") == 1
    # A hand-edited plan may give them different scales: each then has a pair of its own.
    two = plan_of(entry("w1", weights[0], 3.0), entry("w2", weights[1], 1.0))
    apart = write_quantized(model, two, tmp_path / "apart.onnx")
    assert operators(apart.path).count("QuantizeLinear") == 2
    x = RNG.normal(size=(16, 4)).astype(np.float32) * 2
    for plan, path in ((one, together.path), (two, apart.path)):
        expected = sum(
            fake_quantize(np.maximum(x, 0), e.input_scale) @ fake_quantize(w, e.weight_scale, 0, narrow=True).T
            for e, w in zip(plan.layers, weights, strict=True)
        )
        np.testing.assert_allclose(run_model(path, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_some_layers_alone_or_some_kinds(tiny, tmp_path):
    only = write_quantized(tiny.onnx, tiny.plan, tmp_path / "only.onnx", WriteOptions(only=frozenset({"head.weight"})))
    assert operators(only.path).count("QuantizeLinear") == 1
    assert "head.weight.int8" in storage.load(only.path).graph.initializers
    linear = write_quantized(tiny.onnx, tiny.plan, tmp_path / "linear.onnx", WriteOptions(kinds=frozenset({"linear"})))
    assert operators(linear.path).count("QuantizeLinear") == 9
    assert "patch_embed.proj.weight" in storage.load(linear.path).graph.initializers


def test_a_plan_for_another_model_is_refused(tiny, entry, plan_of, tmp_path):
    with pytest.raises(PlanError, match=r"'blocks.7.fc.weight'"):
        write_quantized(tiny.onnx, plan_of(entry("blocks.7.fc.weight", np.ones((4, 4)), 1.0)), tmp_path / "q.onnx")
    with pytest.raises(PlanError, match=r"head.weight.*expected 10 numbers in weight_scale.*got 4"):
        write_quantized(tiny.onnx, plan_of(entry("head.weight", np.ones((4, 4)), 1.0)), tmp_path / "q.onnx")
    assert not (tmp_path / "q.onnx").exists()


def test_adjustments_are_written_too(tiny, tmp_path, run_model):
    """A correction of one output by 5 has to arrive at that output."""
    *others, head = tiny.plan.layers
    shifted = msgspec.structs.replace(head, bias_correction=(5.0, *[0.0] * 9))
    plans = (tiny.plan, msgspec.structs.replace(tiny.plan, layers=(*others, shifted)))
    paths = [write_quantized(tiny.onnx, plan, tmp_path / f"{i}.onnx").path for i, plan in enumerate(plans)]
    before, after = (run_model(path, tiny.images)["logits"] for path in paths)
    np.testing.assert_allclose(after - before, np.float32([[5, *[0] * 9]] * 12), atol=1e-4)


def test_equalization_recovers_what_outliers_cost(tiny, outlier_onnx, min_max_plan, run_model):
    images = tiny.images
    expected = run_model(tiny.onnx.path, images)["logits"]
    np.testing.assert_allclose(run_model(outlier_onnx.path, images)["logits"], expected, rtol=1e-4, atol=1e-4)
    plain = min_max_plan(outlier_onnx, tiny.batches)
    factors = [1.0] * 32
    factors[3] = factors[17] = 50.0
    layers = []
    for clean, entry in zip(tiny.plan.layers, plain.layers, strict=True):
        norm = {"qkv": "norm1", "fc1": "norm2"}.get(entry.name.split(".")[-2])
        into = f"{'.'.join(entry.name.split('.')[:2])}.{norm}"
        equalized = msgspec.structs.replace(clean, equalization=tuple(factors), equalization_into=into)
        layers.append(equalized if norm else entry)
    equalized = msgspec.structs.replace(plain, layers=tuple(layers))
    lost = simulated_sqnr(outlier_onnx, plain, tiny.batches)
    kept = simulated_sqnr(outlier_onnx, equalized, tiny.batches)
    assert kept > lost + 6
    assert kept == pytest.approx(simulated_sqnr(tiny.onnx, tiny.plan, tiny.batches), abs=0.5)
