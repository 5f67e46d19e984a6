"""Linear layers, convolutions and embeddings of the float graph in LiteRT, in float or as their plan's entry says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BuildError
from edgevit.targets.tflite.model import FREE
from edgevit.targets.tflite.translation import attribute

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.graph.layers import Layer
    from edgevit.targets.tflite.translation import GraphTranslation
    from edgevit.types import LayerPlan

LARGEST_FACTOR = 256
"""Of input · weight / output scale: LiteRT 2.3.0 ends the process while it opens a file with this or more."""


def write_layer(to: GraphTranslation, node: ir.Node, layer: Layer) -> None:
    """A linear layer or convolution with its bias."""
    from edgevit.graph.layers import layer_bias, layer_weight
    from edgevit.quantize.scales import quantize

    weight, bias = layer_weight(to.model, layer), layer_bias(to.model, layer)
    entry = to.entries.get(layer.name)
    source, dims = to.read(node.inputs[0]), to.dims(node.outputs[0])
    is_conv = layer.kind == "conv"
    if is_conv:
        source = to.transposed(f"{layer.node}.nhwc", source, (0, 2, 3, 1))
        dims = (dims[0], dims[2], dims[3], dims[1])
    scales = None if entry is None else np.asarray(entry.weight_scale, np.float32)
    integers = entry if to.precision == "int8" else None
    if integers is not None:
        _check_factor(integers)
        source = _codes(to, f"{layer.node}.codes", source, integers.input_scale)
    stored: NDArray[Any] = weight if scales is None else quantize(weight, scales, 0, narrow=True)
    if is_conv:
        kernel = to.number(node.inputs[1]).shape
        stored = np.ascontiguousarray(stored.reshape(kernel).transpose(0, 2, 3, 1))
    operands = [source, to.to.constant(layer.name, stored, scales)]
    bias = np.zeros(layer.out_channels, np.float32) if bias is None else bias
    operands.append(_bias(to, layer, bias, integers))
    name = layer.output if not is_conv else f"{layer.node}.channels_last"
    result = to.to.tensor(name, dims)
    if integers is None:
        _multiply(to, node, layer, operands, result)
    else:
        codes = to.to.tensor(f"{name}.codes", dims, "int8", integers.output_scale)
        _multiply(to, node, layer, operands, codes)
        to.to.operator("DEQUANTIZE", [codes], [result])
    to.values[layer.output] = result if not is_conv else to.transposed(layer.output, result, (0, 3, 1, 2))


def write_embedding(to: GraphTranslation, node: ir.Node) -> bool:
    """Rows gathered as the plan's codes and dequantized then; False for a table that is not in int8."""
    from edgevit.quantize.scales import quantize

    table, ids = node.inputs
    assert table is not None and ids is not None
    entry = to.entries.get(str(table.name))
    if entry is None or attribute(node, "axis", 0) != 0:
        return False
    scales = np.asarray(entry.weight_scale, np.float32)
    codes = quantize(to.number(table), scales, 0, narrow=True)
    dims, name = to.dims(node.outputs[0]), str(node.outputs[0].name)
    flat = to.reshaped(f"{name}.ids", to.read(ids), (-1,))  # the only shape of ids that the operator takes
    count = FREE if FREE in dims else int(np.prod(dims[:-1]))
    rows = to.to.tensor(f"{name}.rows", (count, dims[-1]))
    to.to.operator("EMBEDDING_LOOKUP", [flat, to.to.constant(entry.name, codes, scales)], [rows])
    to.values[name] = to.reshaped(name, rows, dims)
    return True


def _multiply(to: GraphTranslation, node: ir.Node, layer: Layer, operands: list[int], result: int) -> None:
    if layer.kind == "conv":
        strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0] * 4)
        dilations = attribute(node, "dilations", [1, 1])
        if any(pads) or layer.groups != 1:
            raise BuildError(f"expected a convolution without padding or groups for litert, found {node.name}")
        fields = {"padding": 1, "strideH": strides[0], "strideW": strides[1]}
        fields |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        to.to.operator("CONV_2D", operands, [result], "Conv2DOptions", fields)
        return
    dynamic = to.precision == "int8d"
    fields = {"keepNumDims": True, "asymmetricQuantizeInputs": dynamic}
    to.to.operator("FULLY_CONNECTED", operands, [result], "FullyConnectedOptions", fields)


def _codes(to: GraphTranslation, name: str, source: int, scale: float) -> int:
    if (source, scale) not in to.codes:
        codes = to.to.tensor(name, to.to.dims(source), "int8", scale)
        to.to.operator("QUANTIZE", [source], [codes])
        to.codes[source, scale] = codes
    return to.codes[source, scale]


def _bias(to: GraphTranslation, layer: Layer, bias: NDArray[Any], entry: LayerPlan | None) -> int:
    if entry is None:
        return to.to.constant(f"{layer.node}.bias", bias)
    step = np.asarray(entry.weight_scale, np.float64) * entry.input_scale
    codes = np.clip(np.rint(bias / step), -(2**31), 2**31 - 1).astype(np.int32)
    return to.to.constant(f"{layer.node}.bias", codes, step.astype(np.float32))


def _check_factor(entry: LayerPlan) -> None:
    """Raises BuildError for scales of a plan that no calibration gives, and that LiteRT does not survive."""
    assert entry.output_scale is not None
    factor = entry.input_scale * max(entry.weight_scale) / entry.output_scale
    if factor >= LARGEST_FACTOR:
        raise BuildError(
            f"expected input scale · weight scale / output scale below {LARGEST_FACTOR} for litert, found {factor:.4g} "
            f"at {entry.name}; correct the plan, or leave the layer in float (--skip "
            f"{entry.name.removesuffix('.weight')})"
        )
