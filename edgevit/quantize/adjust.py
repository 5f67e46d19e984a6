"""Applies a plan's adjustments to the float weights: equalization and bias correction, in the float graph.

What comes out is the *adjusted weights* half of a quantized model; with every adjustment a plan can hold it computes
the same function as before, except for the bias correction, which answers for the quantization to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import PlanError
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes import append_node, constant, replace_node
from edgevit.graph.producers import VALUES, absorbing_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.graph.layers import Layer
    from edgevit.types import QuantPlan

    FloatArray = NDArray[np.float32]

EXPLICIT = "multiply"
"""`equalization_into` of a layer whose input nobody can absorb the factors into: a Mul is put before it."""


class _Group(msgspec.Struct, frozen=True):
    """Layers that read one tensor and share its equalization."""

    layers: tuple[Layer, ...]
    factors: FloatArray
    into: str


def adjust_weights(model: ir.Model, plan: QuantPlan) -> None:
    """Equalizes and corrects in place. Layers that share an input share its equalization, applied to it once.

    Raises PlanError where `equalization_into` names something that cannot absorb the factors exactly: because it has
    other readers, or because the model has no such parameter.
    """
    for group in _groups(model, plan):
        for layer in group.layers:
            _scale_columns(model, layer, group.factors)
        inverse = np.float32(1) / group.factors
        if group.into == EXPLICIT:
            _multiply_input(model, group.layers, inverse)
        else:
            _absorb(model, group.into, inverse)
    layers = {layer.name: layer for layer in quantizable_layers(model)}
    for entry in plan.layers:
        # Last: a correction is in the units of the adjusted layer, whose outputs may have absorbed factors as well.
        if entry.bias_correction:
            add_to_bias(model, layers[entry.name], np.asarray(entry.bias_correction, dtype=np.float32))


def _groups(model: ir.Model, plan: QuantPlan) -> list[_Group]:
    """What is to be equalized, checked against the whole graph before anything in it is changed."""
    every = quantizable_layers(model)
    layers = {layer.name: layer for layer in every}
    members: dict[tuple[str, str, tuple[float, ...]], list[Layer]] = {}
    for entry in plan.layers:
        if not entry.equalization:
            continue
        layer = layers[entry.name]
        if layer.kind != "linear" or layer.tied:
            what = "tied embedding" if layer.tied else {"conv": "convolution"}.get(layer.kind, f"{layer.kind} layer")
            raise PlanError(f"expected equalization of linear layers only, found it on the {what} {layer.name}")
        members.setdefault((layer.input, entry.equalization_into, entry.equalization), []).append(layer)
    for (_, into, _), group in members.items():
        possible = absorbing_parameters(model, group, every)
        if into not in (EXPLICIT, possible):
            names = ", ".join(layer.name for layer in group)
            raise PlanError(
                f"expected equalization_into of {names} to name what feeds them and nothing else, found {into!r}; "
                f"{'nothing does that here' if possible is None else f'that is {possible!r}'}: give all layers that "
                f"read one tensor the same equalization, or use {EXPLICIT!r}"
            )
    return [
        _Group(tuple(group), np.asarray(factors, dtype=np.float32), into)
        for (_, into, factors), group in members.items()
    ]


def add_to_bias(model: ir.Model, layer: Layer, correction: FloatArray) -> None:
    """Adds to the layer's bias, giving it one if it has none; a bias that is shared is split first."""
    import onnx_ir as ir

    if layer.bias is not None:
        value = model.graph.initializers[layer.bias]
        assert value.const_value is not None
        _assign(model, value, value.const_value.numpy() + correction)
        return
    node = next(node for node in model.graph if node.name == layer.node)
    bias = constant(model, f"{layer.name.removesuffix('.weight')}.bias", correction)
    if layer.kind == "conv":
        _replace_with_bias(model, node, bias)
        return
    append_node(node.outputs[0], ir.node("Add", [node.outputs[0], bias], name=f"{layer.node}_bias"))


def _replace_with_bias(model: ir.Model, node: ir.Node, bias: ir.Value) -> None:
    import onnx_ir as ir

    new = ir.node("Conv", [*node.inputs[:2], bias], name=node.name, metadata_props=dict(node.metadata_props))
    for key, attribute in node.attributes.items():
        new.attributes[key] = attribute
    replace_node(node, new)


def _scale_columns(model: ir.Model, layer: Layer, factors: FloatArray) -> None:
    value = model.graph.initializers[layer.name]
    _scale_when_read(value, factors[:, None])


def _multiply_input(model: ir.Model, layers: Sequence[Layer], inverse: FloatArray) -> None:
    import onnx_ir as ir

    named = {str(node.name): node for node in model.graph}
    nodes = [named[layer.node] for layer in layers]
    source, name = nodes[0].inputs[0], layers[0].name
    assert source is not None
    scaled = ir.node("Mul", [source, constant(model, f"{name}.equalization", inverse)], name=f"{name}.equalize")
    scaled.outputs[0].name = f"{name}.equalized"
    scaled.outputs[0].type, scaled.outputs[0].shape = source.type, source.shape
    model.graph.insert_before(nodes[0], scaled)
    for node in nodes:
        node.replace_input_with(0, scaled.outputs[0])


def _absorb(model: ir.Model, into: str, inverse: FloatArray) -> None:
    """Multiplies the producer's channels by `inverse`: a norm's weight and bias, or a projection's value rows."""
    initializers = model.graph.initializers
    if not into.endswith(VALUES):
        for suffix in ("weight", "bias"):
            value = initializers.get(f"{into}.{suffix}")
            if value is not None and value.const_value is not None:
                _assign(model, value, value.const_value.numpy() * inverse)
        return
    name = into.removesuffix(VALUES)
    layer = next(layer for layer in quantizable_layers(model) if layer.name == name)
    rows = np.ones(layer.out_channels, np.float32)
    rows[-len(inverse) :] = inverse
    weight = initializers[name]
    _scale_when_read(weight, rows[None, :])
    if layer.bias is not None:
        bias = initializers[layer.bias]
        assert bias.const_value is not None
        _assign(model, bias, bias.const_value.numpy() * rows)


def _scale_when_read(value: ir.Value, factors: FloatArray) -> None:
    """Multiplies a weight by what broadcasts over it whenever it is read: no second copy of all weights ever exists."""
    import onnx_ir as ir

    before, name = value.const_value, value.name
    assert before is not None

    def scaled() -> ir.TensorProtocol:
        return ir.tensor(np.asarray(before.numpy() * factors, dtype=np.float32), name=name)

    value.const_value = ir.LazyTensor(scaled, before.dtype, ir.Shape(before.numpy().shape), name=name)


def _assign(model: ir.Model, value: ir.Value, array: FloatArray) -> None:
    import onnx_ir as ir

    value.const_value = ir.tensor(np.ascontiguousarray(array, dtype=np.float32), name=value.name)
