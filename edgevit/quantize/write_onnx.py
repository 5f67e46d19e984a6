"""The plan written into a float ONNX graph as Q/DQ pairs: one of the two writers, the other speaks torch.

Q/DQ stands on the inputs and the weights of linear and convolution layers; a recurrent layer has its weights
dequantized; an embedding gathers codes and dequantizes what it gathered, from the one table that a tied output
projection multiplies with. Nothing else is touched. Never an output:
OpenVINO 2026.4 moves a dequantization of the patch embedding past its Concat with the float class token and ruins the
token, and ONNX Runtime needs no output scale for MatMul.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph import storage
from edgevit.graph.layers import Layer, quantizable_layers
from edgevit.graph.passes import constant, replace_node, tidy
from edgevit.graph.passes.recurrent_weights import gate_order
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


KINDS = frozenset({"linear", "conv", "embedding"})
"""What is quantized beside quantized inputs. OpenVINO 2026.4 refuses recurrent weights there (`LSTMSequence …
expects Constant for port 4`): beside quantized inputs it folds no dequantization. ONNX Runtime dequantizes in each run.
"""
WEIGHT_KINDS = KINDS | {"recurrent"}


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    kinds: frozenset[str] = KINDS
    """Kinds of layer the engine executes in int8; the others stay float although the plan has scales for them."""
    only: frozenset[str] | None = None
    """Quantize these layers alone (for sensitivity), or all of the plan's."""
    inputs: bool = True
    """Quantize what layers read, too; otherwise weights alone are stored in int8."""
    shared: bool = True
    """Layers that read one tensor with one scale share its Q/DQ pair."""


WEIGHTS_ALONE = WriteOptions(kinds=WEIGHT_KINDS, inputs=False)
"""Every weight of the plan in int8, and arithmetic as the engine has it."""


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
    layers = adjusted_layers(model, plan)
    written = [
        entry
        for entry in plan.layers
        if entry.kind in options.kinds and (options.only is None or entry.name in options.only)
    ]
    pairs: InputPairs = {}
    nodes = {str(node.name): node for node in model.graph}
    for entry in written:
        layer = layers[entry.name]
        if not options.shared:
            pairs = {}
        if entry.kind in ("linear", "conv"):
            quantize_node(model, nodes[layer.node], entry, pairs if options.inputs else None)
        elif entry.kind == "recurrent":
            _quantize_recurrent(model, nodes[layer.node], entry)
        if entry.kind == "embedding" or layer.tied:
            _quantize_table(model, entry)
    tidy(model)
    return tuple(entry.name for entry in written)


def adjusted_layers(model: ir.Model, plan: QuantPlan) -> dict[str, Layer]:
    """Checks the plan against the model, adjusts its weights, and returns its layers by parameter."""
    layers = {layer.name: layer for layer in quantizable_layers(model)}
    check_plan_fits(plan, {name: (layer.out_channels, layer.in_channels) for name, layer in layers.items()})
    adjust_weights(model, plan)
    return layers


def quantize_node(model: ir.Model, node: ir.Node, entry: LayerPlan, pairs: InputPairs | None) -> None:
    """Q/DQ before the input and the weight of one MatMul or Conv; `pairs` are those that other layers can share.

    With None for `pairs` the input stays as it is.
    """
    _quantize_weight(model, node, entry)
    if pairs is None:
        return
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
    insert_after(model, source, [down, up])
    return up.outputs[0]


def _quantize_weight(model: ir.Model, node: ir.Node, entry: LayerPlan) -> None:
    """The weight as codes and their scales; a tied one is turned after it is dequantized, and its codes are shared."""
    import onnx_ir as ir

    value = model.graph.initializers[entry.name]
    weight = node.inputs[1]
    tied = weight is not None and weight.producer() is not None
    axis = 0 if tied or entry.kind == "conv" else 1
    up = _dequantized(model, value, entry, np.asarray(entry.weight_scale, np.float32), axis)
    model.graph.insert_before(node, up)
    if not tied:
        node.replace_input_with(1, up.outputs[0])
        return
    assert weight is not None
    turn = ir.node("Transpose", [up.outputs[0]], {"perm": (1, 0)}, name=f"{entry.name}.turn")
    turn.outputs[0].name, turn.outputs[0].type, turn.outputs[0].shape = f"{entry.name}.turned", value.type, weight.shape
    model.graph.insert_before(node, turn)
    node.replace_input_with(1, turn.outputs[0])


def _quantize_recurrent(model: ir.Model, node: ir.Node, entry: LayerPlan) -> None:
    value = model.graph.initializers[entry.name]
    dequantized = recurrent_weight(model, node, entry)
    for use in tuple(value.uses()):
        use.node.replace_input_with(use.idx, dequantized)


def recurrent_weight(model: ir.Model, node: ir.Node, entry: LayerPlan) -> ir.Value:
    """The weight of a recurrent layer from its codes, computed before `node`, which does not read it yet."""
    value = model.graph.initializers[entry.name]
    scales = np.asarray(entry.weight_scale, np.float32)
    up = _dequantized(model, value, entry, scales[gate_order(node.op_type, len(scales))], 1)
    model.graph.insert_before(node, up)
    return up.outputs[0]


def _dequantized(model: ir.Model, value: ir.Value, entry: LayerPlan, scales: np.ndarray, axis: int) -> ir.Node:
    """A DequantizeLinear that gives `value` from its codes, one scale per index of `axis`."""
    import onnx_ir as ir

    assert value.const_value is not None
    codes = quantize(value.const_value.numpy(), scales, axis, narrow=True)
    stored = constant(model, f"{entry.name}.int8", codes)
    scale = constant(model, f"{entry.name}.scale", scales)
    zero = constant(model, f"{entry.name}.zero_point", np.zeros(scales.shape, np.int8))
    up = ir.node("DequantizeLinear", [stored, scale, zero], {"axis": axis}, name=f"{entry.name}.dequantize")
    up.outputs[0].name = f"{entry.name}.dequantized"
    up.outputs[0].type, up.outputs[0].shape = value.type, value.shape
    return up


def _quantize_table(model: ir.Model, entry: LayerPlan) -> None:
    """Every Gather of an embedding: codes and their rows' scales are gathered, and multiplied after that.

    DequantizeLinear would want one scale per channel; here there is one per token.
    """
    value = model.graph.initializers[entry.name]
    for node in [use.node for use in value.uses() if use.node.op_type == "Gather"]:
        replace_node(node, gathered(model, node, entry))


def gathered(model: ir.Model, node: ir.Node, entry: LayerPlan) -> ir.Node:
    """What a Gather of an embedding gives, from codes: the last node, yet to be inserted; the others are before it."""
    import onnx_ir as ir

    value = model.graph.initializers[entry.name]
    assert value.const_value is not None
    scales = np.asarray(entry.weight_scale, np.float32)
    stored = constant(model, f"{entry.name}.int8", quantize(value.const_value.numpy(), scales, 0, narrow=True))
    column = constant(model, f"{entry.name}.column", scales[:, None])
    rows = ir.node("Gather", [stored, node.inputs[1]], name=f"{node.name}.codes")
    cast = ir.node("Cast", [rows.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{node.name}.float")
    steps = ir.node("Gather", [column, node.inputs[1]], name=f"{node.name}.scales")
    shape = node.outputs[0].shape
    for made, dtype in ((rows, ir.DataType.INT8), (cast, ir.DataType.FLOAT), (steps, ir.DataType.FLOAT)):
        made.outputs[0].name, made.outputs[0].type = made.name, ir.TensorType(dtype)
        made.outputs[0].shape = shape if made is not steps or shape is None else ir.Shape([*shape.dims[:-1], 1])
    assert node.graph is not None
    node.graph.insert_before(node, [rows, cast, steps])
    metadata = dict(node.metadata_props)
    return ir.node("Mul", [cast.outputs[0], steps.outputs[0]], name=node.name, metadata_props=metadata)


def insert_after(model: ir.Model, value: ir.Value, nodes: Iterable[ir.Node]) -> None:
    """Puts `nodes` behind what makes `value`, or in front of everything where it is an input of the graph."""
    producer = value.producer()
    if producer is None:
        model.graph.insert_before(next(iter(model.graph)), nodes)
    else:
        model.graph.insert_after(producer, nodes)
