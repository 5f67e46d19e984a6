"""Layers carry their module's name, which engines show in their profiles."""

from __future__ import annotations

import numpy as np

from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.names import restore_names
from edgevit.graph.passes.gemm_to_matmul import gemm_to_matmul
from edgevit.graph.passes.name_nodes import layer_node_name, name_nodes


def test_every_layer_is_named_after_its_module(tiny, exported, run_graph):
    model = storage.load(exported(tiny.model))
    restore_names(model, dict(tiny.model.module.named_parameters()))
    gemm_to_matmul(model)
    before = [layer.node for layer in quantizable_layers(model)]
    assert all(name.startswith("node_") for name in before)
    images = tiny.images["pixel_values"]
    expected = run_graph(model, images)

    assert name_nodes(model) == 10
    layers = quantizable_layers(model)
    assert [layer.node for layer in layers] == [layer_node_name(layer.name) for layer in layers]
    assert layers[1].node == "blocks.0.attn.qkv"
    convolution = next(node for node in model.graph if node.op_type == "Conv")
    assert convolution.outputs[0].name == convolution.name == "patch_embed.proj"
    np.testing.assert_array_equal(run_graph(model, images), expected)
    assert name_nodes(model) == 0
