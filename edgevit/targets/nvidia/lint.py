"""What TensorRT would refuse, or take and misread, in a Q/DQ graph; found before it is built.

TensorRT's int8 is symmetric: a zero point is zero and a code is signed. Most of the rest its parser refuses, with an
error of its own that names no layer. Some things it takes in silence: uint8 with zero point 0 is read as int8 (every
code from 128 on turns negative); a wrong per-channel axis, four bits without blocks and codes that nothing dequantizes
build, but leave the narrow GEMM. Each of them was tried with TensorRT-RTX 1.7.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

DATA = ("INT8", "FLOAT8E4M3FN")
WEIGHTS = (*DATA, "INT4")
INTEGER_OPERATORS = ("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul")
"""The parser has none of them: quantization is Q/DQ around float operators."""
WEIGHT_AXIS = {"MatMul": 1, "Conv": 0}
"""The axis of the output channels in the second input."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    problem: str
    """What was expected and what was found."""


def lint(model: ir.Model) -> tuple[Finding, ...]:
    """Everything wrong with the Q/DQ nodes of a graph, in graph order; empty for one that TensorRT reads as written."""
    found: list[Finding] = []
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found.extend(Finding(node=str(node.name), problem=problem) for problem in _problems(node))
        elif node.op_type in INTEGER_OPERATORS:
            problem = f"expected Q/DQ around float operators, found {node.op_type}, which TensorRT's parser has not"
            found.append(Finding(node=str(node.name), problem=problem))
        elif node.op_type in WEIGHT_AXIS:
            found.extend(Finding(node=str(node.name), problem=problem) for problem in _operand_problems(node))
    return tuple(found)


def check_readable(model: ir.Model, name: str) -> None:
    """Raises PlanError naming the first finding and how many there are."""
    findings = lint(model)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise PlanError(
            f"{name} is not quantized as TensorRT reads it: {findings[0].node}: {findings[0].problem}{more}; quantize "
            "it symmetrically in int8 with edgevit's plan"
        )


def _problems(node: ir.Node) -> Iterator[str]:
    code = _code_type(node)
    if code == "INT32":
        yield "expected a float bias, found an int32 one through DequantizeLinear, which TensorRT refuses"
        return
    if code == "UINT8":
        yield "expected signed int8 codes, found UINT8, which TensorRT reads as int8 without a word"
    elif code not in (DATA if node.op_type == "QuantizeLinear" else WEIGHTS):
        yield f"expected codes of {', '.join(DATA)} (of weights also INT4), found {code}, which no product reads"
    yield from _block_problems(node, code)
    if node.op_type == "QuantizeLinear":
        others = [reader.op_type for reader in node.outputs[0].consumers() if reader.op_type != "DequantizeLinear"]
        if others:
            yield f"expected DequantizeLinear to read its codes, found {others[0]}: the product would be a float one"
    zero = _constant(node, 2)
    if zero is not None and np.any(zero.astype(np.float32) != 0):
        yield f"expected zero point 0 (symmetric), found {_shown(zero)}"
    elif len(node.inputs) > 2 and node.inputs[2] is not None and zero is None:
        yield "expected a constant zero point, found a computed one"
    scale = _constant(node, 1)
    if scale is None:
        yield "expected a constant scale, found a computed one"
        return
    wide = scale.astype(np.float64)
    if not np.all(np.isfinite(wide)) or np.any(wide <= 0):
        yield f"expected positive finite scales, found {_shown(wide[~(np.isfinite(wide) & (wide > 0))])}"
    yield from _axis_problems(node, scale)


def _block_problems(node: ir.Node, code: str) -> Iterator[str]:
    """Blocks are for four bits, and four bits for blocks."""
    block = node.attributes.get_int("block_size", 0)
    if block and code != "INT4":
        yield f"expected blocks of int4 weights alone, found blocks of {block} in {code}, which the builder refuses"
    if not block and code == "INT4":
        yield "expected int4 weights in blocks (block_size), found none: they would be unpacked beside the product"


def _operand_problems(node: ir.Node) -> Iterator[str]:
    """Data and weight in eight bits must be of one type."""
    codes = []
    for value in node.inputs[:2]:
        producer = None if value is None else value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            codes.append(_code_type(producer))
    if len(codes) == 2 and codes[0] in DATA and codes[1] in DATA and codes[0] != codes[1]:
        yield f"expected data and weight of one type, found {codes[0]} and {codes[1]}, which the builder refuses"


def _axis_problems(node: ir.Node, scale: np.ndarray) -> Iterator[str]:
    if scale.size <= 1 or "block_size" in node.attributes:
        return
    source = node.inputs[0]
    weight = node.op_type == "DequantizeLinear" and source is not None and source.is_initializer()
    if not weight:
        yield f"expected one scale per tensor for activations, found {scale.size}"
        return
    axis = node.attributes.get_int("axis", 1)
    shape = () if source is None or source.shape is None else tuple(source.shape.dims)
    for reader, operand, turned in _readers(node):
        wanted = WEIGHT_AXIS.get(reader.op_type)
        if wanted is None or reader.inputs[1] is not operand:
            continue
        wanted = len(shape) - 1 - wanted if turned else wanted
        if axis not in (wanted, wanted - len(shape)):
            yield (
                f"expected scales along axis {wanted} (output channels) of the weight of {reader.op_type} "
                f"{reader.name}, found axis {axis}: it builds, but not as an int8 GEMM"
            )
        elif shape and shape[wanted] != scale.size:
            yield f"expected {shape[wanted]} scales for the weight of {reader.name}, found {scale.size}"


def _readers(node: ir.Node) -> Iterator[tuple[ir.Node, ir.Value, bool]]:
    """(reader, the value it reads, whether that is turned) of what a DequantizeLinear gives."""
    for reader in node.outputs[0].consumers():
        if reader.op_type == "Transpose":
            yield from ((behind, reader.outputs[0], True) for behind in reader.outputs[0].consumers())
        else:
            yield reader, node.outputs[0], False


def _code_type(node: ir.Node) -> str:
    """The type of the codes; a QuantizeLinear without zero point and output type makes uint8."""
    value = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    if value is not None and value.dtype is not None:
        return value.dtype.name
    if node.op_type == "QuantizeLinear":
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        if zero is not None and zero.dtype is not None:
            return zero.dtype.name
        import onnx_ir as ir

        return ir.DataType(node.attributes.get_int("output_dtype", 0) or int(ir.DataType.UINT8)).name
    producer = None if value is None else value.producer()
    return _code_type(producer) if producer is not None and producer.op_type == "QuantizeLinear" else "UNDEFINED"


def _constant(node: ir.Node, index: int) -> np.ndarray | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def _shown(array: np.ndarray) -> str:
    numbers = np.unique(array.astype(np.float64))[:3]
    return ", ".join(f"{number:g}" for number in numbers)
