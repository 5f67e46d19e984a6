"""The layers of a graph that can be quantized: linear layers and convolutions with a constant weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One linear layer or convolution, named by its parameter."""

    name: str
    kind: Literal["linear", "conv"]
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


def quantizable_layers(model: ir.Model) -> tuple[Layer, ...]:
    """Every MatMul with a constant matrix and every Conv with a constant kernel, in graph order.

    A weight that several nodes read is left out: a plan is keyed by parameter, and one parameter then has two inputs.
    """
    layers = []
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("MatMul", "Conv") else None
        if weight is None or not weight.is_initializer() or weight.shape is None or weight.const_value is None:
            continue
        if len(weight.uses()) != 1 or (node.op_type == "MatMul" and len(weight.shape) != 2):
            continue
        layers.append(_linear(node, weight) if node.op_type == "MatMul" else _conv(node, weight))
    return tuple(layers)


def layer_weight(model: ir.Model, layer: Layer) -> FloatArray:
    """The weight as a matrix (output channels, input channels), float32, whatever the graph's layout."""
    value = model.graph.initializers[layer.name].const_value
    assert value is not None
    array = value.numpy()
    return np.ascontiguousarray(array.T) if layer.kind == "linear" else array.reshape(array.shape[0], -1)


def layer_bias(model: ir.Model, layer: Layer) -> FloatArray | None:
    value = model.graph.initializers[layer.bias].const_value if layer.bias else None
    return None if value is None else value.numpy()


def _linear(node: ir.Node, weight: ir.Value) -> Layer:
    assert weight.shape is not None and weight.name is not None
    rows, columns = (int(dim) for dim in weight.shape.dims)  # type: ignore[arg-type]
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
