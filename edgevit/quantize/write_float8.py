"""The plan written into a float graph as pairs of E4M3, the eight-bit float of Ada and Hopper: linear layers alone.

The plan's scales say which range of an input counts: 127 of them. That range is put on a quarter of E4M3's largest
number, 448: steps of a float are relative, so the two binades cost nothing but its smallest numbers, and what int8 had
to clip is still there. A weight has one scale, by its largest number: rows of different size are no trouble to a
float, and TensorRT-RTX 1.7.1 multiplies scales per channel in a kernel of its own after every product.

Bias corrections are left out, because they answer for the errors of int8, and so are convolutions: with the three
channels of an image TensorRT dequantizes them again and computes in float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph.passes import constant, tidy
from edgevit.quantize.scales import SMALLEST_SCALE, levels
from edgevit.quantize.write_onnx import adjusted_layers, insert_after

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevit.types import LayerPlan, QuantPlan

LARGEST = 448.0
"""E4M3's largest number; there is no infinity."""
HEADROOM = 4.0
"""How far an input may be beyond the plan's range before it saturates."""


def write_float8(model: ir.Model, plan: QuantPlan) -> tuple[str, ...]:
    """Adjusts weights and inserts Q/DQ in place; returns the names of the layers that now multiply in E4M3.

    Raises PlanError if the plan does not fit the model.
    """
    entries = tuple(msgspec.structs.replace(entry, bias_correction=()) for entry in plan.layers)
    layers = adjusted_layers(model, msgspec.structs.replace(plan, layers=entries))
    nodes = {str(node.name): node for node in model.graph}
    pairs: dict[tuple[str, float], ir.Value] = {}
    done = []
    for entry in entries:
        if entry.kind != "linear":
            continue
        node = nodes[layers[entry.name].node]
        source = node.inputs[0]
        assert source is not None
        key = (str(source.name), entry.input_scale)
        if key not in pairs:
            pairs[key] = _input(model, source, entry)
        node.replace_input_with(0, pairs[key])
        node.replace_input_with(1, _weight(model, node, entry))
        done.append(entry.name)
    tidy(model)
    return tuple(done)


def input_scale(planned: float) -> float:
    """The E4M3 scale of an input whose int8 scale is `planned`."""
    return planned * levels() * HEADROOM / LARGEST


def _input(model: ir.Model, source: ir.Value, entry: LayerPlan) -> ir.Value:
    import onnx_ir as ir

    scale = constant(model, f"{entry.name}.input_scale", np.float32(input_scale(entry.input_scale)))
    zero = _codes(model, "edgevit.zero_float8", np.zeros((), np.float32))
    down = ir.node("QuantizeLinear", [source, scale, zero], name=f"{entry.name}.input_quantize")
    up = ir.node("DequantizeLinear", [down.outputs[0], scale, zero], name=f"{entry.name}.input_dequantize")
    down.outputs[0].name, up.outputs[0].name = f"{entry.name}.input_float8", f"{entry.name}.input"
    down.outputs[0].type, down.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT8E4M3FN), source.shape
    up.outputs[0].type, up.outputs[0].shape = source.type, source.shape
    insert_after(model, source, [down, up])
    return up.outputs[0]


def _weight(model: ir.Model, node: ir.Node, entry: LayerPlan) -> ir.Value:
    """The weight (in, out) from its codes; of a tied one, which is the table (out, in), a copy that is turned."""
    import onnx_ir as ir

    value, weight = model.graph.initializers[entry.name], node.inputs[1]
    assert value.const_value is not None and weight is not None
    tied = weight.producer() is not None
    array = value.const_value.numpy().T if tied else value.const_value.numpy()
    step = np.maximum(np.float32(np.abs(array).max() / LARGEST), np.float32(SMALLEST_SCALE))
    scale = constant(model, f"{entry.name}.scale", step)
    stored = _codes(model, f"{entry.name}.float8", np.ascontiguousarray(array / step))
    zero = _codes(model, "edgevit.zero_float8", np.zeros((), np.float32))
    up = ir.node("DequantizeLinear", [stored, scale, zero], name=f"{entry.name}.dequantize")
    up.outputs[0].name = f"{entry.name}.dequantized"
    up.outputs[0].type, up.outputs[0].shape = value.type, ir.Shape(array.shape)
    model.graph.insert_before(node, up)
    return up.outputs[0]


def _codes(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """`array` rounded to E4M3, ties to even; nothing in it is beyond 448."""
    import ml_dtypes

    return constant(model, name, array.astype(ml_dtypes.float8_e4m3fn))
