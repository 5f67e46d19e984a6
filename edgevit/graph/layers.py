"""The layers of a graph that can be quantized: all that multiply with a constant weight, and embeddings.

A linear layer's weight is (in, out) in the graph, but a tied one's is its embedding's table (out, in), read through a
Transpose. A recurrent layer has two entries, one for each of its weights (1, gates, in), gates in ONNX's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from edgevit.graph.passes.recurrent_weights import ORDERS, WEIGHTS, in_torch_order
from edgevit.graph.transpose import transposed

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


TABLE_READERS = frozenset({"Gather", "Transpose"})
CALIBRATED = frozenset({"linear", "conv"})
"""Kinds of layer whose input has a scale in a plan."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One linear layer, convolution, embedding or weight of a recurrent layer, named by its parameter."""

    name: str
    kind: Literal["linear", "conv", "embedding", "recurrent"]
    node: str
    input: str
    """Name of the tensor it reads."""
    output: str
    """Name of the tensor after the bias."""
    bias: str | None
    out_channels: int
    in_channels: int
    """Columns of the weight as a matrix: input features, or input channels × kernel for a convolution."""
    groups: int = 1
    """Of a convolution; with more than 1 every output channel reads only its group's share of the input channels."""
    tied: bool = False
    """A linear layer whose weight is an embedding's table as well."""


def quantizable_layers(model: ir.Model) -> tuple[Layer, ...]:
    """Every layer whose weight can be stored in eight bits, in graph order; each parameter once.

    A weight that several nodes multiply with is left out: a plan is keyed by parameter, and one parameter then has two
    inputs.
    """
    found: dict[str, Layer] = {}
    for node in model.graph:
        for layer in _layers_of(node):
            known = found.get(layer.name)
            if known is None:
                found[layer.name] = layer
            elif layer.tied and known.kind == "embedding":  # it stands where it multiplies, not where it is gathered
                del found[layer.name]
                found[layer.name] = layer
    return tuple(found.values())


def calibrated_layers(model: ir.Model) -> tuple[Layer, ...]:
    """Those whose input is quantized as well, and therefore has to be seen: linear layers and convolutions."""
    return tuple(layer for layer in quantizable_layers(model) if layer.kind in CALIBRATED)


def layer_weight(model: ir.Model, layer: Layer) -> FloatArray:
    """The weight as a matrix (output channels, input channels), float32, as in PyTorch whatever the graph's layout."""
    value = model.graph.initializers[layer.name].const_value
    assert value is not None
    array = value.numpy()
    if layer.kind == "recurrent":
        operator = next(node.op_type for node in model.graph if node.name == layer.node)
        return np.ascontiguousarray(array[0][in_torch_order(operator, layer.out_channels)])
    if layer.kind == "linear":
        return array if layer.tied else transposed(array)
    return array.reshape(array.shape[0], -1)


def layer_bias(model: ir.Model, layer: Layer) -> FloatArray | None:
    value = model.graph.initializers[layer.bias].const_value if layer.bias else None
    return None if value is None else value.numpy()


def _layers_of(node: ir.Node) -> list[Layer]:
    if node.op_type in ORDERS and node.domain == "":
        return [_recurrent(node, index) for index in WEIGHTS if _constant(node.inputs[index])]
    weight = node.inputs[1] if node.op_type in ("MatMul", "Conv") else None
    if node.op_type == "Gather":
        return _embedding(node)
    if weight is None:
        return []
    if node.op_type == "Conv":
        return [_conv(node, weight)] if _constant(weight) and len(weight.uses()) == 1 else []
    table = tied_table(node)
    if table is not None:
        return [_linear(node, table, tied=True)]
    plain = _constant(weight) and len(weight.uses()) == 1 and len(weight.shape or ()) == 2
    return [_linear(node, weight)] if plain else []


def tied_table(node: ir.Node) -> ir.Value | None:
    """The embedding's table that a MatMul multiplies with through a Transpose of its own, or None."""
    turn = node.inputs[1].producer() if node.op_type == "MatMul" and node.inputs[1] is not None else None
    table = turn.inputs[0] if turn is not None and turn.op_type == "Transpose" else None
    if turn is None or table is None or not _constant(table) or len(table.shape or ()) != 2:
        return None
    others = [use for use in table.uses() if use.node is not turn]
    gathered = all(use.node.op_type == "Gather" and use.idx == 0 for use in others)
    return table if gathered and len(turn.outputs[0].uses()) == 1 else None


def _constant(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and value.shape is not None and value.const_value is not None


def _embedding(node: ir.Node) -> list[Layer]:
    """A table of an nn.Embedding: what is gathered from a buffer (positions) or computed has another name."""
    table = node.inputs[0]
    if table is None or not _constant(table) or not str(table.name).endswith("weight") or len(table.shape or ()) != 2:
        return []
    if node.attributes.get_int("axis", 0) != 0 or any(use.node.op_type not in TABLE_READERS for use in table.uses()):
        return []
    assert table.shape is not None
    rows, columns = (int(dim) for dim in table.shape.dims)  # type: ignore[arg-type]
    return [
        Layer(
            name=str(table.name),
            kind="embedding",
            node=str(node.name),
            input=str(node.inputs[1].name) if node.inputs[1] is not None else "",
            output=str(node.outputs[0].name),
            bias=None,
            out_channels=rows,
            in_channels=columns,
        )
    ]


def _recurrent(node: ir.Node, index: int) -> Layer:
    weight = node.inputs[index]
    assert weight is not None and weight.shape is not None
    _, rows, columns = (int(dim) for dim in weight.shape.dims)  # type: ignore[arg-type]
    return Layer(
        name=str(weight.name),
        kind="recurrent",
        node=str(node.name),
        input=str(node.inputs[0].name) if node.inputs[0] is not None else "",
        output=str(node.outputs[0].name),
        bias=None,
        out_channels=rows,
        in_channels=columns,
    )


def _linear(node: ir.Node, weight: ir.Value, *, tied: bool = False) -> Layer:
    assert weight.shape is not None and weight.name is not None
    rows, columns = (int(dim) for dim in (weight.shape[::-1] if tied else weight.shape.dims))  # type: ignore[arg-type]
    output, bias = node.outputs[0], None
    consumers = output.consumers()
    if len(consumers) == 1 and consumers[0].op_type == "Add":
        other = next((value for value in consumers[0].inputs if value is not output), None)
        if other is not None and other.is_initializer() and other.shape is not None and other.shape.dims == (columns,):
            output, bias = consumers[0].outputs[0], other.name
    return Layer(
        name=weight.name,
        kind="linear",
        node=str(node.name),
        input=str(node.inputs[0].name) if node.inputs[0] is not None else "",
        output=str(output.name),
        bias=bias,
        out_channels=columns,
        in_channels=rows,
        tied=tied,
    )


def _conv(node: ir.Node, weight: ir.Value) -> Layer:
    assert weight.shape is not None and weight.name is not None
    dims = [int(dim) for dim in weight.shape.dims]  # type: ignore[arg-type]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Layer(
        name=weight.name,
        kind="conv",
        node=str(node.name),
        input=str(node.inputs[0].name) if node.inputs[0] is not None else "",
        output=str(node.outputs[0].name),
        bias=None if bias is None else bias.name,
        out_channels=dims[0],
        in_channels=int(np.prod(dims[1:])),
        groups=node.attributes.get_int("group", 1),
    )
