"""Which parameters could absorb a factor per channel of a tensor, exactly: equalization needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from edgevit.graph.layers import Layer

VALUES = ":values"
"""Suffix for the value rows of an attention's projection: all rows of v, or the last third of a joint q, k, v."""


def absorbing_parameters(model: ir.Model, layers: Sequence[Layer], all_layers: Sequence[Layer]) -> str | None:
    """The norm's path (`blocks.0.norm1`) or the projection's weight with `:values`, for layers that share an input.

    None where nothing can absorb a factor exactly: an activation function stands before the input, the tensor has
    other readers, or attention shares value heads.
    """
    nodes = {str(node.name): node for node in model.graph}
    source = nodes[layers[0].node].inputs[0]
    producer = source.producer() if source is not None else None
    if source is None or producer is None:
        return None
    readers = {str(node.name) for node in source.consumers()}
    if readers != {layer.node for layer in layers} or source.is_graph_output():
        return None
    if producer.op_type == "LayerNormalization":
        return _norm(producer)
    if producer.op_type == "Attention":
        return _value_projection(producer, layers[0], all_layers)
    return None


def _norm(node: ir.Node) -> str | None:
    """The norm's path if its weight and bias are its own: a factor for one norm must not reach another."""
    weight, *bias = (value for value in node.inputs[1:3] if value is not None)
    name = weight.name or ""
    path = name.removesuffix(".weight")
    own = all(value.is_initializer() and len(value.uses()) == 1 for value in (weight, *bias))
    named = name.endswith(".weight") and all(value.name == f"{path}.bias" for value in bias)
    return path if own and named else None


def _value_projection(attention: ir.Node, reader: Layer, layers: Sequence[Layer]) -> str | None:
    heads = attention.attributes.get_int("q_num_heads", 0)
    if heads == 0 or heads != attention.attributes.get_int("kv_num_heads", 0):
        return None
    values = attention.inputs[2]
    producer = None if values is None else values.producer()
    if values is None or producer is None or len(values.uses()) != 1:
        return None
    if producer.op_type == "Split":
        if producer.outputs[-1] is not values or len(producer.outputs) != 3:
            return None
        values = producer.inputs[0]
        if values is None or len(values.uses()) != 1:
            return None
    layer = next((layer for layer in layers if values is not None and layer.output == values.name), None)
    if layer is None or layer.out_channels not in (reader.in_channels, 3 * reader.in_channels):
        return None
    return f"{layer.name}{VALUES}"
