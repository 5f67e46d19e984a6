"""Each thing that TensorRT would refuse or misread, made by hand from a right graph."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.quantize.write_onnx import WriteOptions, quantize_graph
from edgevit.targets.nvidia.lint import check_readable, lint


@pytest.fixture
def graph(tiny) -> ir.Model:
    model = storage.load(tiny.onnx.path)
    quantize_graph(model, tiny.plan, WriteOptions())
    return model


def node(model: ir.Model, name: str) -> ir.Node:
    return next(found for found in model.graph if found.name == name)


def constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    model.graph.initializers[name] = value
    return value


def unsigned_activation(model: ir.Model) -> str:
    """The trap that is taken in silence: uint8 with zero point 0."""
    zero = constant(model, "zero", np.uint8(0))
    for kind in ("quantize", "dequantize"):
        node(model, f"head.weight.input_{kind}").replace_input_with(2, zero)
    node(model, "head.weight.input_quantize").outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    return "expected signed int8 codes, found UINT8"


def no_zero_point(model: ir.Model) -> str:
    """ONNX makes uint8 of a QuantizeLinear without zero point."""
    found = node(model, "head.weight.input_quantize")
    found.resize_inputs(2)
    found.outputs[0].type = None
    return "found UINT8"


def unsigned_weight(model: ir.Model) -> str:
    found = node(model, "head.weight.dequantize")
    codes = found.inputs[0].const_value.numpy()
    found.replace_input_with(0, constant(model, "codes", (codes.astype(np.int16) + 128).astype(np.uint8)))
    return "found UINT8"


def asymmetric(model: ir.Model) -> str:
    zero = constant(model, "zero", np.int8(3))
    node(model, "head.weight.input_dequantize").replace_input_with(2, zero)
    return r"expected zero point 0 \(symmetric\), found 3"


def integer_bias(model: ir.Model) -> str:
    codes, scale = (
        constant(model, "bias.int32", np.zeros(10, np.int32)),
        constant(model, "bias.scale", np.float32(1e-4)),
    )
    made = ir.node("DequantizeLinear", [codes, scale], name="bias.dequantize")
    made.outputs[0].name, made.outputs[0].dtype = "bias", ir.DataType.FLOAT
    model.graph.insert_before(node(model, "head"), made)
    return "found an int32 one through DequantizeLinear"


def wrong_axis(model: ir.Model) -> str:
    node(model, "blocks.0.attn.proj.weight.dequantize").attributes["axis"] = ir.AttrInt64("axis", 0)
    return r"expected scales along axis 1 \(output channels\) of the weight of MatMul blocks.0.attn.proj, found axis 0"


def wrong_axis_of_a_convolution(model: ir.Model) -> str:
    node(model, "patch_embed.proj.weight.dequantize").attributes["axis"] = ir.AttrInt64("axis", 1)
    return "along axis 0"


def scales_per_channel_of_an_activation(model: ir.Model) -> str:
    node(model, "head.weight.input_quantize").replace_input_with(1, constant(model, "many", np.ones(32, np.float32)))
    return "expected one scale per tensor for activations, found 32"


def zero_scale(model: ir.Model) -> str:
    node(model, "head.weight.input_quantize").replace_input_with(1, constant(model, "none", np.float32(0)))
    return "expected positive finite scales, found 0"


def computed_scale(model: ir.Model) -> str:
    node(model, "head.weight.input_quantize").replace_input_with(1, model.graph.inputs[0])
    return "expected a constant scale"


def replaced(model: ir.Model, found: ir.Node, array: np.ndarray) -> None:
    found.replace_input_with(0, constant(model, "codes", array))


def other_float8(model: ir.Model) -> str:
    found = node(model, "head.weight.dequantize")
    replaced(model, found, found.inputs[0].const_value.numpy().astype(ml_dtypes.float8_e5m2))
    return "expected codes of INT8, FLOAT8E4M3FN .of weights also INT4., found FLOAT8E5M2"


def mixed_types(model: ir.Model) -> str:
    found = node(model, "head.weight.dequantize")
    scale = constant(model, "scale", np.float32(0.1))
    replaced(model, found, found.inputs[0].const_value.numpy().astype(ml_dtypes.float8_e4m3fn))
    found.replace_input_with(1, scale)
    found.resize_inputs(2)
    return "head: expected data and weight of one type, found INT8 and FLOAT8E4M3FN"


def four_bits_without_blocks(model: ir.Model) -> str:
    found = node(model, "head.weight.dequantize")
    codes = np.clip(found.inputs[0].const_value.numpy(), -8, 7).astype(ml_dtypes.int4)
    replaced(model, found, codes)
    return r"expected int4 weights in blocks \(block_size\), found none"


def blocks_of_eight_bits(model: ir.Model) -> str:
    node(model, "head.weight.dequantize").attributes["block_size"] = ir.AttrInt64("block_size", 16)
    return "expected blocks of int4 weights alone, found blocks of 16 in INT8"


def codes_that_nothing_dequantizes(model: ir.Model) -> str:
    down = node(model, "head.weight.input_quantize")
    up = node(model, "head.weight.input_dequantize")
    cast = ir.node("Cast", [down.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name="cast")
    cast.outputs[0].name = "cast"
    model.graph.insert_before(up, cast)
    return "expected DequantizeLinear to read its codes, found Cast"


def an_integer_operator(model: ir.Model) -> str:
    made = ir.node("DynamicQuantizeLinear", [model.graph.inputs[0]], num_outputs=3, name="dynamic")
    model.graph.insert_before(next(iter(model.graph)), made)
    return "dynamic: expected Q/DQ around float operators, found DynamicQuantizeLinear"


def wrong_axis_behind_a_transpose(model: ir.Model) -> str:
    """A tied weight lies the other way round: the axis of its output channels is 0 there."""
    up, reader = node(model, "blocks.0.attn.proj.weight.dequantize"), node(model, "blocks.0.attn.proj")
    turn = ir.node("Transpose", [up.outputs[0]], {"perm": (1, 0)}, name="turn")
    turn.outputs[0].name = "turned"
    model.graph.insert_before(reader, turn)
    reader.replace_input_with(1, turn.outputs[0])
    return "expected scales along axis 0 .output channels. of the weight of MatMul blocks.0.attn.proj, found axis 1"


BROKEN = (
    other_float8,
    mixed_types,
    four_bits_without_blocks,
    blocks_of_eight_bits,
    codes_that_nothing_dequantizes,
    an_integer_operator,
    wrong_axis_behind_a_transpose,
    unsigned_activation,
    no_zero_point,
    unsigned_weight,
    asymmetric,
    integer_bias,
    wrong_axis,
    wrong_axis_of_a_convolution,
    scales_per_channel_of_an_activation,
    zero_scale,
    computed_scale,
)


def test_what_the_plan_writes_is_readable(graph: ir.Model) -> None:
    assert sum(found.op_type == "QuantizeLinear" for found in graph.graph) > 5
    assert lint(graph) == ()
    check_readable(graph, "model.onnx")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_each_misreading_is_found(graph: ir.Model, broken: Callable[[ir.Model], str]) -> None:
    message = broken(graph)
    with pytest.raises(PlanError, match=message) as error:
        check_readable(graph, "model.onnx")
    assert error.value.exit_status == 2
    assert "\n" not in str(error.value)


def test_a_negative_axis_is_the_same_axis(graph: ir.Model) -> None:
    node(graph, "blocks.0.attn.proj.weight.dequantize").attributes["axis"] = ir.AttrInt64("axis", -1)
    assert lint(graph) == ()
