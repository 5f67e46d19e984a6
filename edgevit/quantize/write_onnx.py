"""The plan written into a float ONNX graph as Q/DQ pairs: one of the two writers, the other speaks torch.

Q/DQ stands on the inputs and the weights of linear and convolution layers and nowhere else. Never on an output:
OpenVINO 2026.4 moves a dequantization of the patch embedding past its Concat with the float class token and ruins the
token, and ONNX Runtime needs no output scale for MatMul.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes import constant, tidy
from edgevit.quantize.adjust import adjust_weights
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.quantize.scales import quantize

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import TypeAlias

    import onnx_ir as ir

    from edgevit.types import LayerPlan, OnnxModel, QuantPlan

    InputPairs: TypeAlias = dict[tuple[str, float], ir.Value]
    """(tensor, scale) to the dequantized tensor: layers that read one tensor with one scale share its Q/DQ pair."""


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    kinds: frozenset[str] = frozenset({"linear", "conv"})
    """Kinds of layer the engine executes in int8; the others stay float although the plan has scales for them."""
    only: frozenset[str] | None = None
    """Quantize these layers alone (for sensitivity), or all of the plan's."""


def write_quantized(model: OnnxModel, plan: QuantPlan, path: Path, options: WriteOptions | None = None) -> OnnxModel:
    """Writes the Q/DQ form of `model` under `plan` to `path`.

    Raises PlanError if the plan does not fit the model (unknown layers, wrong numbers of channels).
    """
    graph = storage.load(model.path)
    quantize_graph(graph, plan, options or WriteOptions())
    storage.save(graph, path)
    return storage.describe(graph, path)


def quantize_graph(model: ir.Model, plan: QuantPlan, options: WriteOptions) -> tuple[str, ...]:
    """Adjusts weights and inserts Q/DQ in place; returns the names of the layers that now run in int8."""
    layers = {layer.name: layer for layer in quantizable_layers(model)}
    check_plan_fits(plan, {name: (layer.out_channels, layer.in_channels) for name, layer in layers.items()})
    adjust_weights(model, plan)
    written = [
        entry
        for entry in plan.layers
        if entry.kind in options.kinds and (options.only is None or entry.name in options.only)
    ]
    pairs: InputPairs = {}
    nodes = {str(node.name): node for node in model.graph}
    for entry in written:
        quantize_node(model, nodes[layers[entry.name].node], entry, pairs)
    tidy(model)
    return tuple(entry.name for entry in written)


def quantize_node(model: ir.Model, node: ir.Node, entry: LayerPlan, pairs: InputPairs) -> None:
    """Q/DQ before the input and the weight of one MatMul or Conv; `pairs` are those that other layers can share."""
    _quantize_weight(model, node, entry)
    source = node.inputs[0]
    assert source is not None
    key = (str(source.name), entry.input_scale)
    if key not in pairs:
        pairs[key] = _quantize_input(model, source, entry)
    node.replace_input_with(0, pairs[key])


def _quantize_input(model: ir.Model, source: ir.Value, entry: LayerPlan) -> ir.Value:
    import onnx_ir as ir

    scale = constant(model, f"{entry.name}.input_scale", np.float32(entry.input_scale))
    zero = constant(model, "edgevit.zero_point", np.int8(0))
    down = ir.node("QuantizeLinear", [source, scale, zero], name=f"{entry.name}.input_quantize")
    up = ir.node("DequantizeLinear", [down.outputs[0], scale, zero], name=f"{entry.name}.input_dequantize")
    down.outputs[0].name, up.outputs[0].name = f"{entry.name}.input_int8", f"{entry.name}.input"
    up.outputs[0].type, up.outputs[0].shape = source.type, source.shape
    _insert_after(model, source, [down, up])
    return up.outputs[0]


def _quantize_weight(model: ir.Model, node: ir.Node, entry: LayerPlan) -> None:
    import onnx_ir as ir

    value = model.graph.initializers[entry.name]
    assert value.const_value is not None
    axis = 1 if entry.kind == "linear" else 0
    scales = np.asarray(entry.weight_scale, dtype=np.float32)
    codes = quantize(value.const_value.numpy(), scales, axis, narrow=True)
    stored = constant(model, f"{entry.name}.int8", codes)
    scale = constant(model, f"{entry.name}.scale", scales)
    zero = constant(model, f"{entry.name}.zero_point", np.zeros(scales.shape, np.int8))
    up = ir.node("DequantizeLinear", [stored, scale, zero], {"axis": axis}, name=f"{entry.name}.dequantize")
    up.outputs[0].name = f"{entry.name}.dequantized"
    up.outputs[0].type, up.outputs[0].shape = value.type, value.shape
    model.graph.insert_before(node, up)
    node.replace_input_with(1, up.outputs[0])


def _insert_after(model: ir.Model, value: ir.Value, nodes: Iterable[ir.Node]) -> None:
    producer = value.producer()
    if producer is None:
        model.graph.insert_before(next(iter(model.graph)), nodes)
    else:
        model.graph.insert_after(producer, nodes)
