"""Who could absorb a factor per channel: a norm, an attention's values, or nobody."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.producers import absorbing_parameters


def absorbing(graph, *names):
    layers = quantizable_layers(graph)
    return absorbing_parameters(graph, [layer for layer in layers if layer.name in names], layers)


@pytest.mark.parametrize(
    ("layer", "into"),
    [
        ("blocks.0.attn.qkv.weight", "blocks.0.norm1"),
        ("blocks.1.mlp.fc1.weight", "blocks.1.norm2"),
        ("blocks.1.attn.proj.weight", "blocks.1.attn.qkv.weight:values"),
        ("blocks.0.mlp.fc2.weight", None),  # GELU stands before it
        ("patch_embed.proj.weight", None),  # the input of the model
        ("head.weight", None),  # the class token is picked out of the norm's output
    ],
)
def test_in_a_vision_transformer(tiny, layer, into):
    assert absorbing(storage.load(tiny.onnx.path), layer) == into


def test_separate_projections_absorb_together_or_not_at_all(separate_onnx):
    graph = storage.load(separate_onnx.path)
    assert absorbing(graph, "q.weight", "k.weight", "v.weight") == "norm"
    assert absorbing(graph, "q.weight", "k.weight") is None, "v reads the norm as well"
    assert absorbing(graph, "out.weight") == "v.weight:values"


TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
model (float[b, t, 4] x) => (float[b, t, 4] y, float[b, t, 4] z) {
    n = LayerNormalization(x, norm__weight, norm__bias)
    y = MatMul(n, w)
    z = OTHER
}
"""


@pytest.fixture
def norm_graph(parse_graph):
    arrays = {"norm__weight": np.ones(4), "norm__bias": np.zeros(4), "w": np.eye(4)}
    constants = {name: array.astype(np.float32) for name, array in arrays.items()}
    return lambda other: parse_graph(TEXT.replace("OTHER", other), **constants)


def test_another_reader_of_the_norm_forbids_it(norm_graph):
    assert absorbing(norm_graph("Relu(x)"), "w") == "norm"
    assert absorbing(norm_graph("Relu(n)"), "w") is None


def test_a_shared_norm_weight_or_bias_forbids_it(norm_graph):
    assert absorbing(norm_graph("Mul(x, norm__weight)"), "w") is None
    assert absorbing(norm_graph("Add(x, norm__bias)"), "w") is None


def test_a_norms_output_that_leaves_the_model_forbids_it(norm_graph):
    graph = norm_graph("Relu(x)")
    graph.graph.outputs[1] = graph.graph[0].outputs[0]
    assert absorbing(graph, "w") is None
