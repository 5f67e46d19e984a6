"""What TensorRT would refuse, or take and misread, in a Q/DQ graph; found before it is built.

TensorRT's int8 is symmetric: a zero point is zero and a code is signed. Most of the rest its parser refuses with an
error of its own; two things it takes in silence: uint8 with zero point 0 is read as int8 (every code from 128 on turns
negative), and a wrong per-channel axis builds but leaves the int8 GEMM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

ALLOWED = ("INT8", "FLOAT8E4M3FN", "INT4")
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
    if code not in ALLOWED:
        yield f"expected signed int8 codes, found {code}, which TensorRT reads as int8 without a word"
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
    for reader in node.outputs[0].consumers():
        wanted = WEIGHT_AXIS.get(reader.op_type)
        if wanted is None or reader.inputs[1] is not node.outputs[0]:
            continue
        if axis not in (wanted, wanted - len(shape)):
            yield (
                f"expected scales along axis {wanted} (output channels) of the weight of {reader.op_type} "
                f"{reader.name}, found axis {axis}: it builds, but not as an int8 GEMM"
            )
        elif shape and shape[wanted] != scale.size:
            yield f"expected {shape[wanted]} scales for the weight of {reader.name}, found {scale.size}"


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
