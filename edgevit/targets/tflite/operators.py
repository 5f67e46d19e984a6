"""The float graph's operators as LiteRT's: what Transformers and Vision Transformers are made of, and nothing else."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import BuildError
from edgevit.targets.tflite.attention import write_attention
from edgevit.targets.tflite.layers import write_embedding
from edgevit.targets.tflite.model import FREE, tensor_type
from edgevit.targets.tflite.translation import GraphTranslation, attribute, narrowed

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir


def _plain(to: GraphTranslation, node: ir.Node, *, kind: str, options: str = "") -> None:
    """An operator that both have, element by element, broadcasting as NumPy does."""
    to.to.operator(kind, [to.read(one) for one in node.inputs], [to.new(node)], options)


def _gelu(to: GraphTranslation, node: ir.Node) -> None:
    fields = {"approximate": attribute(node, "approximate", "none") == "tanh"}
    to.to.operator("GELU", [to.read(node.inputs[0])], [to.new(node)], "GeluOptions", fields)


def _softmax(to: GraphTranslation, node: ir.Node) -> None:
    source = to.read(node.inputs[0])
    if attribute(node, "axis", -1) not in (-1, len(to.to.dims(source)) - 1):
        raise BuildError(f"expected a softmax over the last axis for litert, found {node.name}")
    to.to.operator("SOFTMAX", [source], [to.new(node)], "SoftmaxOptions", {"beta": 1.0})


def _cast(to: GraphTranslation, node: ir.Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    given, made = narrowed(source), narrowed(output)
    if given == made:
        to.values[str(output.name)] = to.read(source)
        return
    fields = {"inDataType": tensor_type(given), "outDataType": tensor_type(made)}
    to.to.operator("CAST", [to.read(source)], [to.new(node)], "CastOptions", fields)


def _clip(to: GraphTranslation, node: ir.Node) -> None:
    """Bounds as a maximum, a minimum, or one after the other."""
    name, result = str(node.outputs[0].name), to.read(node.inputs[0])
    for kind, bound in zip(("MAXIMUM", "MINIMUM"), node.inputs[1:3], strict=False):
        if bound is not None:
            made = to.to.like(f"{name}.{kind.lower()}", to.dims(node.outputs[0]), result)
            to.to.operator(kind, [result, to.read(bound)], [made], "MaximumMinimumOptions")
            result = made
    to.values[name] = result


def _matmul(to: GraphTranslation, node: ir.Node) -> None:
    """Of two computed tensors; one with a weight is a layer."""
    to.to.operator("BATCH_MATMUL", [to.read(one) for one in node.inputs], [to.new(node)], "BatchMatMulOptions")


def _reduce(to: GraphTranslation, node: ir.Node, *, kind: str) -> None:
    axes = to.numbers(f"{node.outputs[0].name}.axes", to.number(node.inputs[1]))
    fields = {"keepDims": bool(attribute(node, "keepdims", 1))}
    to.to.operator(kind, [to.read(node.inputs[0]), axes], [to.new(node)], "ReducerOptions", fields)


def _layer_normalization(to: GraphTranslation, node: ir.Node) -> None:
    """(x - mean) / sqrt(variance + ε) · γ + β over the last axis, as LiteRT has no operator for it."""
    x, name = to.read(node.inputs[0]), str(node.outputs[0].name)
    dims = to.to.dims(x)
    if attribute(node, "axis", -1) not in (-1, len(dims) - 1):
        raise BuildError(f"expected a norm over the last axis for litert, found {node.name}")
    narrow = (*dims[:-1], 1)
    axes = to.numbers(f"{name}.axes", [len(dims) - 1])
    epsilon = to.to.constant(f"{name}.epsilon", np.asarray([attribute(node, "epsilon", 1e-5)], np.float32))

    def then(step: str, kind: str, inputs: list[int], size: tuple[int, ...], options: str) -> int:
        made = to.to.tensor(f"{name}.{step}", size)
        to.to.operator(kind, inputs, [made], options, {"keepDims": True} if kind == "MEAN" else None)
        return made

    mean = then("mean", "MEAN", [x, axes], narrow, "ReducerOptions")
    centred = then("centred", "SUB", [x, mean], dims, "SubOptions")
    squares = then("squares", "MUL", [centred, centred], dims, "MulOptions")
    variance = then("variance", "MEAN", [squares, axes], narrow, "ReducerOptions")
    safe = then("safe", "ADD", [variance, epsilon], narrow, "AddOptions")
    inverse = then("inverse", "RSQRT", [safe], narrow, "")
    result = then("normed", "MUL", [centred, inverse], dims, "MulOptions")
    result = then("scaled", "MUL", [result, to.read(node.inputs[1])], dims, "MulOptions")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        result = then("moved", "ADD", [result, to.read(node.inputs[2])], dims, "AddOptions")
    to.values[name] = result


# -------------------------------------------------------------------------------------------------- moving about


def _shape(to: GraphTranslation, node: ir.Node) -> None:
    """Known numbers, or read off the tensor while it runs."""
    assert node.inputs[0] is not None
    dims, name = to.dims(node.inputs[0]), str(node.outputs[0].name)
    first, last, _ = slice(attribute(node, "start", 0), attribute(node, "end", None)).indices(len(dims))
    if FREE not in dims[first:last]:
        to.known[name] = np.asarray(dims[first:last], np.int64)
        return
    whole = to.to.tensor(f"{name}.whole", (len(dims),), "int32")
    to.to.operator("SHAPE", [to.read(node.inputs[0])], [whole], "ShapeOptions", {"outType": tensor_type("int32")})
    to.values[name] = _strided(to, name, whole, (first, last), scalar=False)


def _strided(to: GraphTranslation, name: str, source: int, span: tuple[int, int], *, scalar: bool) -> int:
    """Numbers `span` of a vector, or the only one of them. LiteRT knows them before it runs, as it does shapes."""
    made = to.to.like(name, () if scalar else (span[1] - span[0],), source)
    bounds = [to.numbers(f"{name}.{key}", [at]) for key, at in zip(("begin", "end", "step"), (*span, 1), strict=True)]
    fields = {"shrinkAxisMask": int(scalar)}
    to.to.operator("STRIDED_SLICE", [source, *bounds], [made], "StridedSliceOptions", fields)
    return made


def _squeeze(to: GraphTranslation, node: ir.Node) -> None:
    source, name = node.inputs[0], str(node.outputs[0].name)
    assert source is not None
    if to.is_known(source):
        to.known[name] = to.number(source).reshape(to.dims(node.outputs[0]))
    elif to.dims(source) == (1,) and to.dims(node.outputs[0]) == ():
        to.values[name] = _strided(to, name, to.read(source), (0, 1), scalar=True)
    else:
        _reshape(to, node)


def _range(to: GraphTranslation, node: ir.Node) -> None:
    if all(to.is_known(one) for one in node.inputs):
        start, limit, step = (int(to.number(one)) for one in node.inputs)
        to.known[str(node.outputs[0].name)] = np.arange(start, limit, step)
    else:
        to.to.operator("RANGE", [to.read(one) for one in node.inputs], [to.new(node)], "RangeOptions")


def _concat(to: GraphTranslation, node: ir.Node) -> None:
    axis = attribute(node, "axis", 0)
    if all(to.is_known(one) for one in node.inputs):
        to.known[str(node.outputs[0].name)] = np.concatenate([to.number(one) for one in node.inputs], axis)
    else:
        parts = [to.read(one) for one in node.inputs]
        to.to.operator("CONCATENATION", parts, [to.new(node)], "ConcatenationOptions", {"axis": axis})


def _expand(to: GraphTranslation, node: ir.Node) -> None:
    """Of constants now; of a mask not at all: the addition to the scores broadcasts."""
    source, output = node.inputs[0], node.outputs[0]
    if to.is_known(source):
        numbers = to.number(source)
        wanted = np.broadcast_shapes(numbers.shape, tuple(to.number(node.inputs[1])))
        to.known[str(output.name)] = np.ascontiguousarray(np.broadcast_to(numbers, wanted))
    elif output.uses() and all(use.node.op_type == "Attention" and use.idx == 3 for use in output.uses()):
        to.values[str(output.name)] = to.read(source)
    elif to.fixed(output):
        wide = to.numbers(f"{output.name}.shape", to.dims(output))
        to.to.operator("BROADCAST_TO", [to.read(source), wide], [to.new(node)])
    else:
        raise BuildError(f"expected to expand to known sizes for litert, found {node.name}; build onnxruntime")


def _reshape(to: GraphTranslation, node: ir.Node) -> None:
    """Also Unsqueeze and Squeeze: the output's shape says everything."""
    output = node.outputs[0]
    to.values[str(output.name)] = to.reshaped(str(output.name), to.read(node.inputs[0]), to.dims(output))


def _transpose(to: GraphTranslation, node: ir.Node) -> None:
    source, name = node.inputs[0], str(node.outputs[0].name)
    assert source is not None
    order = attribute(node, "perm", None) or tuple(reversed(range(len(to.dims(source)))))
    to.values[name] = to.transposed(name, to.read(source), order)


def _split(to: GraphTranslation, node: ir.Node) -> None:
    axis = to.numbers(f"{node.name}.axis", attribute(node, "axis", 0))
    outputs = [to.new(node, at) for at in range(len(node.outputs))]
    if len({to.dims(one) for one in node.outputs}) != 1:
        raise BuildError(f"expected a split into equal parts for litert, found {node.name}")
    to.to.operator("SPLIT", [axis, to.read(node.inputs[0])], outputs, "SplitOptions", {"numSplits": len(outputs)})


def _gather(to: GraphTranslation, node: ir.Node) -> None:
    source, index = node.inputs
    assert source is not None and index is not None
    if to.is_known(index) and not index.shape:
        _row(to, node, int(to.number(index)))
    elif not write_embedding(to, node):
        places, fields = to.read(index), {"axis": attribute(node, "axis", 0)}
        to.to.operator("GATHER", [to.read(source), places], [to.new(node)], "GatherOptions", fields)


def _row(to: GraphTranslation, node: ir.Node, row: int) -> None:
    """One row, as the class token is: XNNPACK takes a slice, and leaves a gather."""
    source, name = to.read(node.inputs[0]), str(node.outputs[0].name)
    dims, axis = to.to.dims(source), attribute(node, "axis", 0)
    axis %= len(dims)
    if row < 0 and dims[axis] == FREE:
        raise BuildError(f"expected a row counted from the start for litert, found {row} at {node.name}")
    begin, size = [0] * len(dims), list(dims)
    begin[axis], size[axis] = row % dims[axis] if row < 0 else row, 1
    operands = [to.numbers(f"{name}.{key}", value) for key, value in (("begin", begin), ("size", size))]
    made = to.to.like(f"{name}.row", tuple(size), source)
    to.to.operator("SLICE", [source, *operands], [made], "SliceOptions")
    to.values[name] = to.reshaped(name, made, to.dims(node.outputs[0]))


OPERATORS: dict[str, Callable[[GraphTranslation, ir.Node], None]] = {
    "Add": functools.partial(_plain, kind="ADD", options="AddOptions"),
    "Attention": write_attention,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Div": functools.partial(_plain, kind="DIV", options="DivOptions"),
    "Equal": functools.partial(_plain, kind="EQUAL", options="EqualOptions"),
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": _gelu,
    "Greater": functools.partial(_plain, kind="GREATER", options="GreaterOptions"),
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "Mul": functools.partial(_plain, kind="MUL", options="MulOptions"),
    "Range": _range,
    "ReduceMean": functools.partial(_reduce, kind="MEAN"),
    "ReduceSum": functools.partial(_reduce, kind="SUM"),
    "Relu": functools.partial(_plain, kind="RELU"),
    "Reshape": _reshape,
    "Shape": _shape,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": functools.partial(_plain, kind="SUB", options="SubOptions"),
    "Tanh": functools.partial(_plain, kind="TANH"),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
