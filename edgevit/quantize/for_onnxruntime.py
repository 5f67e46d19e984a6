"""Linear layers as ONNX Runtime runs them best when they are not plain Q/DQ around a MatMul.

`MatMulNBits` multiplies 8-bit weights, kept as they are in memory, with inputs that it quantizes as they come, in
blocks of up to 32 along the input channels: a decoding step of `zoo:transformer-base` takes 1.35 ms where float32 takes
3.04 and DynamicQuantizeLinear with MatMulInteger, one scale for the whole input, 1.58 (2 cores with AMX, 1.32). Its
weights lie as (out, blocks, block), row by row, so that an embedding can gather from the same codes.

With float arithmetic (`accuracy_level` 1) the same operator takes 33 ms; weight-only builds do not use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.layers import tied_table
from edgevit.graph.passes import constant, replace_node, tidy
from edgevit.graph.transpose import transposed
from edgevit.quantize.scales import quantize

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from edgevit.graph.layers import Layer
    from edgevit.types import LayerPlan

CONTRIB = "com.microsoft"
BLOCKS = (32, 16)
"""Input channels that share a scale of the input; the first that divides them all, so that nothing is padded."""
INT8_INPUTS = 4
"""`accuracy_level`: inputs are quantized to int8."""
MIDDLE = 128
"""Codes are unsigned; this one is zero, by default."""


def dynamic_linears(model: ir.Model, layers: dict[str, Layer], entries: Iterable[LayerPlan]) -> tuple[str, ...]:
    """Makes the linear layers of `entries` MatMulNBits, in place; returns their names. Weights are adjusted already."""
    nodes = {str(node.name): node for node in model.graph}
    done = []
    for entry in entries:
        layer = layers[entry.name]
        _to_blocks(model, nodes[layer.node], layer, entry)
        done.append(entry.name)
    if done:
        model.opset_imports[CONTRIB] = 1
        tidy(model)
    return tuple(done)


def block_size(channels: int) -> int:
    return next((size for size in BLOCKS if channels % size == 0), BLOCKS[-1])


def _to_blocks(model: ir.Model, node: ir.Node, layer: Layer, entry: LayerPlan) -> None:
    import onnx_ir as ir

    table = tied_table(node)
    value = model.graph.initializers[entry.name]
    assert value.const_value is not None
    scales = np.asarray(entry.weight_scale, np.float32)
    weight = value.const_value.numpy() if table is not None else transposed(value.const_value.numpy())
    size = block_size(layer.in_channels)
    codes = _blocked(quantize(weight, scales, 0, narrow=True), size)
    stored = constant(model, f"{entry.name}.int8", codes)
    blocks = constant(model, f"{entry.name}.scale", np.repeat(scales[:, None], codes.shape[1], axis=1))
    attributes = {
        "K": layer.in_channels,
        "N": layer.out_channels,
        "bits": 8,
        "block_size": size,
        "accuracy_level": INT8_INPUTS,
    }
    metadata = dict(node.metadata_props)
    product = ir.node(
        "MatMulNBits",
        [node.inputs[0], stored, blocks],
        attributes,
        domain=CONTRIB,
        name=node.name,
        metadata_props=metadata,
    )
    replace_node(node, product)
    if table is not None:
        for gather in [use.node for use in table.uses() if use.node.op_type == "Gather"]:
            _gather_blocks(model, gather, stored, entry)


def _blocked(codes: np.ndarray, size: int) -> np.ndarray:
    """(out, in) int8 as (out, blocks, size) uint8; what is padded is 0."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % size)))
    return (padded.astype(np.int16) + MIDDLE).astype(np.uint8).reshape(len(codes), -1, size)


def _gather_blocks(model: ir.Model, node: ir.Node, stored: ir.Value, entry: LayerPlan) -> None:
    """An embedding's Gather from the blocks of its tied projection: gathered first, dequantized after that."""
    import onnx_ir as ir

    assert stored.shape is not None and node.outputs[0].shape is not None
    _, blocks, size = (int(dim) for dim in stored.shape.dims)  # type: ignore[arg-type]
    *front, width = node.outputs[0].shape.dims
    scales = constant(model, f"{entry.name}.column", np.asarray(entry.weight_scale, np.float32)[:, None])
    middle = constant(model, "edgevit.middle", np.float32(MIDDLE))
    whole = constant(model, f"{entry.name}.whole", np.asarray([*[0] * len(front), blocks * size], np.int64))
    made: list[ir.Node] = []

    def then(name: str, operator: str, *inputs: ir.Value | None, to: int | None = None) -> None:
        before = [made[-1].outputs[0]] if made else []
        attributes = {} if to is None else {"to": to}
        made.append(ir.node(operator, [*before, *inputs], attributes, name=f"{node.name}.{name}"))
        made[-1].outputs[0].name = made[-1].name

    then("codes", "Gather", stored, node.inputs[1])
    then("float", "Cast", to=int(ir.DataType.FLOAT))
    then("signed", "Sub", middle)
    then("row", "Reshape", whole)
    if blocks * size != width:
        first, last = (constant(model, f"edgevit.at.{at}", np.asarray([at], np.int64)) for at in (0, -1))
        then("real", "Slice", first, constant(model, f"{entry.name}.width", np.asarray([width], np.int64)), last)
    column = ir.node("Gather", [scales, node.inputs[1]], name=f"{node.name}.scales")
    column.outputs[0].name = column.name
    assert node.graph is not None
    node.graph.insert_before(node, [*made, column])
    replace_node(node, ir.node("Mul", [made[-1].outputs[0], column.outputs[0]], name=node.name))
