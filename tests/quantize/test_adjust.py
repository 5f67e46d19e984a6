"""Adjusted weights: the same function in float, wherever the factors went; corrections in the adjusted units."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.quantize.adjust import EXPLICIT, adjust_weights
from edgevit.types import LayerPlan, QuantPlan

QKV, PROJ = "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight"
FC1, FC2 = "blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc2.weight"


def factors(channels, seed=0, spread=3.0):
    logarithms = np.random.default_rng(seed).uniform(-spread, spread, channels)
    return tuple(float(value) for value in np.exp2(logarithms).astype(np.float32))


def equalize(*entries, **fields):
    """A plan of (name, factors, into); scales do not matter here."""
    layers = [
        LayerPlan(
            name=name,
            kind="linear",
            input_scale=1.0,
            weight_scale=(),
            equalization=s,
            equalization_into=into,
            **fields,
        )
        for name, s, into in entries
    ]
    return QuantPlan(model="", model_digest="", layers=tuple(layers))


def adjusted(model, plan, path):
    graph = storage.load(model.path)
    adjust_weights(graph, plan)
    storage.save(graph, path)
    return graph


# ------------------------------------------------------------------------------------ exactness in float


TINY_PLANS = {
    "norm": equalize((QKV, factors(32), "blocks.0.norm1")),
    "values": equalize((PROJ, factors(32), f"{QKV}:values")),
    "multiply": equalize((FC2, factors(64), EXPLICIT)),
    "multiply, another reader": equalize(("head.weight", factors(32), EXPLICIT)),
    "all at once": equalize(
        (QKV, factors(32, 1), "blocks.0.norm1"),
        (PROJ, factors(32, 2), f"{QKV}:values"),
        (FC1, factors(32, 3), "blocks.1.norm2"),
        (FC2, factors(64, 4), EXPLICIT),
    ),
}


@pytest.mark.parametrize("case", TINY_PLANS)
def test_equalization_changes_nothing_in_float(case, tiny, tmp_path, run_model):
    path, plan = tmp_path / "adjusted.onnx", TINY_PLANS[case]
    graph = adjusted(tiny.onnx, plan, path)
    expected = run_model(tiny.onnx.path, tiny.images)["logits"]
    found = run_model(path, tiny.images)["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    original = storage.load(tiny.onnx.path)
    for entry in plan.layers:
        before, after = layer_weight(original, layers[entry.name]), layer_weight(graph, layers[entry.name])
        # Rows may have absorbed the factors of the layer behind them; columns have their own in any case.
        ratio = (after / before)[0] / np.float32(entry.equalization)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_inputs_are_divided_by_the_factors(tiny, tmp_path, run_model):
    s = factors(32)
    adjusted(tiny.onnx, equalize((QKV, s, "blocks.0.norm1")), tmp_path / "adjusted.onnx")
    name = next(layer.input for layer in quantizable_layers(storage.load(tiny.onnx.path)) if layer.name == QKV)
    before = run_model(tiny.onnx.path, tiny.images, name)[name]
    after = run_model(tmp_path / "adjusted.onnx", tiny.images, name)[name]
    np.testing.assert_allclose(after, before / np.float32(s), rtol=1e-3, atol=1e-5)


SEPARATE = """
<ir_version: 10, opset_import: ["" : 23]>
model (float[2, 5, 8] x) => (float[2, 5, 8] y) {
    n = LayerNormalization(x, norm__weight, norm__bias)
    q = MatMul(n, q__weight)
    k = MatMul(n, k__weight)
    v0 = MatMul(n, v__weight)
    v = Add(v0, v__bias)
    a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v)
    y = MatMul(a, out__weight)
}
"""


@pytest.fixture
def separate(write_graph):
    rng = np.random.default_rng(0)
    weights = {f"{name}__weight": rng.normal(size=(8, 8)) for name in ("q", "k", "v", "out")}
    rest = {"norm__weight": rng.normal(size=8), "norm__bias": rng.normal(size=8), "v__bias": rng.normal(size=8)}
    return write_graph(SEPARATE, **weights, **rest)


X = {"x": np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)}


@pytest.mark.parametrize("into", ["norm", EXPLICIT])
def test_separate_projections_share_one_equalization(into, separate, tmp_path, run_model):
    s = factors(8)
    plan = equalize(*((f"{name}.weight", s, into) for name in "qkv"), ("out.weight", factors(8, 5), "v.weight:values"))
    graph = adjusted(separate, plan, tmp_path / "adjusted.onnx")
    operators = [node.op_type for node in graph.graph]
    assert operators.count("Mul") == (1 if into == EXPLICIT else 0)
    expected = run_model(separate.path, X)["y"]
    np.testing.assert_allclose(run_model(tmp_path / "adjusted.onnx", X)["y"], expected, rtol=1e-5, atol=1e-5)
    (read,) = {layer.input for layer in quantizable_layers(graph) if layer.name in ("q.weight", "k.weight", "v.weight")}
    assert (read == "n") == (into == "norm")


def test_different_factors_are_fine_where_each_has_its_own_multiplication(separate, tmp_path, run_model):
    plan = equalize(("q.weight", factors(8, 1), EXPLICIT), ("k.weight", factors(8, 2), EXPLICIT))
    graph = adjusted(separate, plan, tmp_path / "adjusted.onnx")
    assert [node.op_type for node in graph.graph].count("Mul") == 2
    expected = run_model(separate.path, X)["y"]
    np.testing.assert_allclose(run_model(tmp_path / "adjusted.onnx", X)["y"], expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------- plans that do not fit


@pytest.mark.parametrize(
    "plan",
    [
        equalize(("q.weight", factors(8), "norm"), ("k.weight", factors(8), "norm")),
        equalize(*((f"{name}.weight", factors(8, seed), "norm") for seed, name in enumerate("qkv"))),
        equalize(("out.weight", factors(8), "norm")),
        equalize(("out.weight", factors(8), "q.weight:values")),
        equalize(("out.weight", factors(8), "gone")),
    ],
    ids=["one reader left out", "factors differ", "another norm", "not the values", "no such parameter"],
)
def test_what_would_change_the_function_is_refused_before_anything_changes(plan, separate):
    graph = storage.load(separate.path)
    before = {name: value.const_value.numpy().copy() for name, value in graph.graph.initializers.items()}
    with pytest.raises(PlanError, match=r"equalization_into of .*\.weight.* to name what feeds them") as caught:
        adjust_weights(graph, plan)
    assert "\n" not in str(caught.value)
    for name, array in before.items():
        np.testing.assert_array_equal(graph.graph.initializers[name].const_value.numpy(), array)


def test_convolutions_are_not_equalized(tiny):
    plan = equalize(("patch_embed.proj.weight", factors(192), EXPLICIT))
    with pytest.raises(PlanError, match=r"linear layers only.*patch_embed\.proj\.weight"):
        adjust_weights(storage.load(tiny.onnx.path), plan)


# ----------------------------------------------------------------------------------------- bias correction


def correct(name, values, **fields):
    entry = LayerPlan(name=name, kind="linear", input_scale=1.0, weight_scale=(), bias_correction=tuple(values))
    return QuantPlan(model="", model_digest="", layers=(msgspec.structs.replace(entry, **fields),))


def test_a_correction_is_added_to_the_bias(tiny, tmp_path, run_model):
    values = np.linspace(-1, 1, 10)
    adjusted(tiny.onnx, correct("head.weight", values), tmp_path / "adjusted.onnx")
    expected = run_model(tiny.onnx.path, tiny.images)["logits"] + values
    np.testing.assert_allclose(run_model(tmp_path / "adjusted.onnx", tiny.images)["logits"], expected, atol=1e-5)


def test_a_layer_without_a_bias_gets_one_and_outputs_keep_their_names(separate, tmp_path, run_model):
    values = np.linspace(-1, 1, 8)
    graph = adjusted(separate, correct("out.weight", values), tmp_path / "adjusted.onnx")
    assert [value.name for value in graph.graph.outputs] == ["y"]
    (layer,) = (layer for layer in quantizable_layers(graph) if layer.name == "out.weight")
    assert (layer.bias, layer.output) == ("out.bias", "y")
    expected = run_model(separate.path, X)["y"] + values
    np.testing.assert_allclose(run_model(tmp_path / "adjusted.onnx", X)["y"], expected, atol=1e-5)


def test_a_convolution_without_a_bias_gets_one(write_graph, tmp_path, run_model):
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    model (float[2, 3, 4, 4] x) => (float[2, 5, 2, 2] y) { y = Conv<strides = [2, 2]>(x, w) }
    """
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2))
    model = write_graph(text, w=weight)
    graph = adjusted(model, correct("w", np.arange(5), kind="conv"), tmp_path / "adjusted.onnx")
    assert [value.name for value in graph.graph.outputs] == ["y"]
    x = {"x": np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)}
    expected = run_model(model.path, x)["y"] + np.arange(5)[:, None, None]
    np.testing.assert_allclose(run_model(tmp_path / "adjusted.onnx", x)["y"], expected, atol=1e-5)


def test_corrections_are_in_the_units_of_the_adjusted_layer(separate, tmp_path):
    """v's outputs take up the factors of the layer behind attention; its correction was measured with them in."""
    s = factors(8)
    entries = equalize(("out.weight", s, "v.weight:values")).layers + correct("v.weight", np.ones(8)).layers
    graph = adjusted(separate, QuantPlan(model="", model_digest="", layers=entries), tmp_path / "adjusted.onnx")
    original = storage.load(separate.path).graph.initializers["v.bias"].const_value.numpy()
    found = graph.graph.initializers["v.bias"].const_value.numpy()
    np.testing.assert_allclose(found, original / np.float32(s) + 1, rtol=1e-5)
