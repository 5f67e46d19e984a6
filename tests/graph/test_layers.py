"""Which layers of a graph can be quantized, and what is known of each."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.layers import layer_bias, layer_weight, quantizable_layers


def test_all_of_a_vision_transformer_in_graph_order(tiny):
    graph = storage.load(tiny.onnx.path)
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    blocks = [
        f"blocks.{index}.{name}.weight" for index in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
    assert list(layers) == ["patch_embed.proj.weight", *blocks, "head.weight"]
    parameters = dict(tiny.model.module.named_parameters())
    for name, layer in layers.items():
        expected = parameters[name].numpy()
        assert layer.kind == ("conv" if expected.ndim == 4 else "linear")
        assert (layer.out_channels, layer.in_channels) == expected.reshape(len(expected), -1).shape
        np.testing.assert_array_equal(layer_weight(graph, layer), expected.reshape(len(expected), -1))
        assert layer.bias == name.replace("weight", "bias")
        np.testing.assert_array_equal(layer_bias(graph, layer), parameters[layer.bias].numpy())
    assert layers["head.weight"].output == "logits"
    assert layers["patch_embed.proj.weight"].input == "pixel_values"


@pytest.fixture
def graph_of(parse_graph):
    return lambda lines, **arrays: parse_graph(text(lines), **arrays)


def text(lines):
    return f"""
    <ir_version: 10, opset_import: ["" : 21]>
    model (float[b, 3] x, float[3, 4] z) => (float[b, 4] y) {{
        {lines}
    }}
    """


def test_what_follows_is_a_bias_only_if_it_is_one_number_per_channel(graph_of):
    weight, wide = np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)
    lines = "p = MatMul(x, w)\n y = Add(p, b)"
    (plain,) = quantizable_layers(graph_of(lines, w=weight, b=np.ones(4, np.float32)))
    assert (plain.bias, plain.output) == ("b", "y")
    (other,) = quantizable_layers(graph_of(lines, w=weight, b=wide))
    assert (other.bias, other.output) == (None, "p")
    twice = "p = MatMul(x, w)\n q = Add(p, b)\n y = Add(q, p)"
    (read,) = quantizable_layers(graph_of(twice, w=weight, b=np.ones(4, np.float32)))
    assert (read.bias, read.output) == (None, "p"), "the product has another reader"


def test_products_of_activations_and_stacks_of_matrices_are_no_layers(graph_of):
    assert quantizable_layers(graph_of("y = MatMul(x, z)")) == ()
    assert quantizable_layers(graph_of("p = MatMul(x, w)\n y = Squeeze(p)", w=np.ones((1, 3, 4), np.float32))) == ()


def test_a_weight_that_is_read_twice_is_left_out(graph_of):
    lines = "p = MatMul(x, w)\n q = MatMul(p, w)\n y = MatMul(q, v)"
    layers = quantizable_layers(graph_of(lines, w=np.eye(3, dtype=np.float32), v=np.ones((3, 4), np.float32)))
    assert [layer.name for layer in layers] == ["v"]


def test_a_layer_without_a_bias(graph_of):
    graph = graph_of("y = MatMul(x, w)", w=np.ones((3, 4), np.float32))
    (layer,) = quantizable_layers(graph)
    assert layer_bias(graph, layer) is None
