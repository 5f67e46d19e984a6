"""Parameter names: every weighted layer's, also where the exporter stores equal tensors once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.names import SCOPE, forget_origin, module_scope, restore_names


def parameters_of(model):
    return dict(model.module.named_parameters())


def inputs_by_operator(graph, operator, index):
    return [node.inputs[index].name for node in graph.graph if node.op_type == operator]


def test_every_parameter_is_found_with_its_values(tiny):
    graph = storage.load(tiny.onnx.path)
    linear = {name for name, module in tiny.model.module.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, parameter in parameters_of(tiny.model).items():
        values = graph.graph.initializers[name].const_value.numpy()
        expected = parameter.numpy()
        transposed = name.endswith(".weight") and name.removesuffix(".weight") in linear
        np.testing.assert_array_equal(values, expected.T if transposed else expected, err_msg=name)
    assert sum(not name.startswith("val_") for name in graph.graph.initializers) == len(parameters_of(tiny.model))


def test_nodes_know_their_module(tiny):
    scopes = {node.name: module_scope(node) for node in storage.load(tiny.onnx.path).graph}
    assert scopes["blocks.1.mlp.fc2"] == "blocks.1.mlp.fc2"
    assert scopes["head"] == "head"


def test_equal_norms_and_biases_of_an_untrained_model_are_parted(untrained, exported):
    graph = storage.load(exported(untrained))
    shared = inputs_by_operator(graph, "LayerNormalization", 1)
    assert len(set(shared)) < len(shared), "the trap: the exporter keeps one weight for all norms"

    restored = restore_names(graph, parameters_of(untrained))
    assert len(restored) == len(set(restored))
    norms = ["blocks.0.norm1", "blocks.0.norm2", "norm"]
    assert inputs_by_operator(graph, "LayerNormalization", 1) == [f"{name}.weight" for name in norms]
    assert inputs_by_operator(graph, "LayerNormalization", 2) == [f"{name}.bias" for name in norms]
    biases = {name for name in restored if name.endswith(".bias") and ".norm" not in name}
    assert biases >= {"blocks.0.attn.qkv.bias", "blocks.0.attn.proj.bias", "blocks.0.mlp.fc2.bias"}
    for name in norms:
        values = graph.graph.initializers[f"{name}.weight"].const_value.numpy()
        np.testing.assert_array_equal(values, np.ones(32, np.float32))


def test_a_weight_that_is_nobodys_is_refused(untrained, exported):
    graph = storage.load(exported(untrained))
    parameters = parameters_of(untrained)
    parameters["blocks.0.mlp.fc1.weight"] = parameters["blocks.0.mlp.fc1.weight"] + 1
    with pytest.raises(CaptureError, match=r"blocks\.0\.mlp\.fc1"):
        restore_names(graph, parameters)


TWO_LAYERS = """
<ir_version: 10, opset_import: ["" : 21]>
model (float[b, 3] x) => (float[b, 3] y) {
    p = MatMul(x, val_0)
    q = Add(p, val_2)
    r = MatMul(q, val_1)
    s = Add(r, val_2)
    y = Mul(s, val_3)
}
"""


@pytest.fixture
def two_layers(parse_graph):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 3)).astype(np.float32)
    zeros = np.zeros(3, np.float32)
    graph = parse_graph(TWO_LAYERS, val_0=first, val_1=second, val_2=zeros, val_3=zeros)
    weights = {"first": torch.tensor(first.T), "second": torch.tensor(second.T)}
    return graph, weights


def test_equal_parameters_without_a_module_do_not_become_one(two_layers):
    graph, weights = two_layers
    restore_names(graph, {**weights, "bias_1": torch.zeros(3), "bias_2": torch.zeros(3)})
    assert inputs_by_operator(graph, "MatMul", 1) == ["first", "second"]
    assert inputs_by_operator(graph, "Add", 1) == ["bias_1", "bias_2"]


def test_a_parameter_that_is_read_twice_stays_one(two_layers):
    graph, weights = two_layers
    restore_names(graph, {**weights, "bias": torch.zeros(3)})
    assert inputs_by_operator(graph, "Add", 1) == ["bias", "bias"]


def test_other_readers_of_equal_values_get_a_copy(two_layers):
    """A layer scale that happens to equal a bias must not change with it."""
    graph, weights = two_layers
    product = graph.graph[-1]
    product.replace_input_with(1, graph.graph.initializers["val_2"])
    restore_names(graph, {**weights, "bias_1": torch.zeros(3), "bias_2": torch.zeros(3)})
    assert product.inputs[1].name not in ("bias_1", "bias_2")
    np.testing.assert_array_equal(product.inputs[1].const_value.numpy(), np.zeros(3))


def test_a_square_weight_read_both_ways_is_kept_both_ways(parse_graph):
    weight = np.arange(9, dtype=np.float32).reshape(3, 3)
    zeros = np.zeros(3, np.float32)
    graph = parse_graph(TWO_LAYERS, val_0=weight, val_1=weight.T.copy(), val_2=zeros, val_3=zeros)
    restore_names(graph, {"tied": torch.tensor(weight), "bias": torch.zeros(3)})
    names = inputs_by_operator(graph, "MatMul", 1)
    assert names == ["tied", "tied.transposed"]
    np.testing.assert_array_equal(graph.graph.initializers[names[1]].const_value.numpy(), weight.T)


def test_the_exporters_notes_are_taken_off(untrained, exported):
    graph = storage.load(exported(untrained))
    assert any("pkg.torch.onnx.stack_trace" in node.metadata_props for node in graph.graph)
    assert graph.graph.metadata_props
    restore_names(graph, parameters_of(untrained))
    forget_origin(graph)
    assert {key for node in graph.graph for key in node.metadata_props} == {SCOPE}
    assert not graph.graph.metadata_props
    assert not graph.metadata_props
    assert module_scope(graph.graph[1]) == "patch_embed.proj"
