"""Applies a plan's adjustments to the float weights: equalization and bias correction, in the float graph.

What comes out is the *adjusted weights* half of a quantized model; with every adjustment a plan can hold it computes
the same function as before, except for the bias correction, which answers for the quantization to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import PlanError
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes import append_node, constant, replace_node
from edgevit.graph.producers import VALUES

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.graph.layers import Layer
    from edgevit.types import QuantPlan

    FloatArray = NDArray[np.float32]

EXPLICIT = "multiply"
"""`equalization_into` of a layer whose input nobody can absorb the factors into: a Mul is put before it."""


def adjust_weights(model: ir.Model, plan: QuantPlan) -> None:
    """Equalizes and corrects in place. Layers that share an input share its equalization, applied to it once.

    Raises PlanError where `equalization_into` names nothing that could absorb the factors.
    """
    layers = {layer.name: layer for layer in quantizable_layers(model)}
    absorbed: dict[str, tuple[float, ...]] = {}
    explicit: dict[str, ir.Value] = {}
    for entry in plan.layers:
        layer = layers[entry.name]
        if entry.equalization:
            factors = np.asarray(entry.equalization, dtype=np.float32)
            _scale_columns(model, layer, factors)
            if entry.equalization_into == EXPLICIT:
                _multiply_input(model, layer, factors, explicit)
            elif absorbed.setdefault(layer.input, entry.equalization) != entry.equalization:
                raise PlanError(
                    f"expected the layers that read the input of {entry.name} to share one equalization, found two; "
                    "give them the same factors"
                )
        if entry.bias_correction:
            add_to_bias(model, layer, np.asarray(entry.bias_correction, dtype=np.float32))
    done: set[str] = set()
    for entry in plan.layers:
        layer = layers[entry.name]
        if entry.equalization and entry.equalization_into != EXPLICIT and layer.input not in done:
            done.add(layer.input)
            _absorb(model, entry.equalization_into, np.float32(1) / np.asarray(entry.equalization, np.float32))


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
    assert value.const_value is not None
    if layer.kind != "linear":
        raise PlanError(f"expected equalization of linear layers only, found it on the convolution {layer.name}")
    _assign(model, value, value.const_value.numpy() * factors[:, None])


def _multiply_input(model: ir.Model, layer: Layer, factors: FloatArray, explicit: dict[str, ir.Value]) -> None:
    import onnx_ir as ir

    node = next(node for node in model.graph if node.name == layer.node)
    source = node.inputs[0]
    assert source is not None and source.name is not None
    if source.name not in explicit:
        inverse = constant(model, f"{layer.name}.equalization", 1 / factors)
        scaled = ir.node("Mul", [source, inverse], name=f"{layer.name}.equalize")
        scaled.outputs[0].name = f"{layer.name}.equalized"
        scaled.outputs[0].type, scaled.outputs[0].shape = source.type, source.shape
        model.graph.insert_before(node, scaled)
        explicit[source.name] = scaled.outputs[0]
    node.replace_input_with(0, explicit[source.name])


def _absorb(model: ir.Model, into: str, inverse: FloatArray) -> None:
    """Multiplies the producer's channels by `inverse`: a norm's weight and bias, or a projection's value rows."""
    initializers = model.graph.initializers
    if f"{into}.weight" in initializers and not into.endswith(VALUES):
        for suffix in ("weight", "bias"):
            value = initializers.get(f"{into}.{suffix}")
            if value is not None and value.const_value is not None:
                _assign(model, value, value.const_value.numpy() * inverse)
        return
    name = into.removesuffix(VALUES)
    layer = next((layer for layer in quantizable_layers(model) if layer.name == name), None)
    if layer is None:
        raise PlanError(
            f"expected equalization_into to name a norm or a layer with {VALUES}, found {into!r}, which the model "
            "does not have; correct it in the plan"
        )
    rows = np.ones(layer.out_channels, np.float32)
    rows[-len(inverse) :] = inverse
    weight = initializers[name]
    assert weight.const_value is not None
    _assign(model, weight, weight.const_value.numpy() * rows[None, :])
    if layer.bias is not None:
        bias = initializers[layer.bias]
        assert bias.const_value is not None
        _assign(model, bias, bias.const_value.numpy() * rows)


def _assign(model: ir.Model, value: ir.Value, array: FloatArray) -> None:
    import onnx_ir as ir

    value.const_value = ir.tensor(np.ascontiguousarray(array, dtype=np.float32), name=value.name)
