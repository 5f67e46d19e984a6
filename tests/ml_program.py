"""Runs a Core ML program in NumPy, operator by operator, from what its package holds: Core ML runs on macOS only.

Numbers are rounded to float16 where the program says float16; sums are taken in float32, as the hardware does.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
}


def open_program(path: Path) -> Any:
    import coremltools as ct

    from edgevit.targets.apple.check import read_program

    return read_program(path, ct.utils.load_spec(str(path))).functions["main"]


def run_program(function: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name, float32."""
    values: dict[str, Any] = dict(inputs)

    def value(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return [value(each) for each in one]
        if one.name in values:
            return values[one.name]
        assert one.val is not None, one.name
        return one.val

    for operation in function.operations:
        if operation.op_type == "const":
            continue
        arguments = {name: value(one) for name, one in operation.inputs.items()}
        results = OPERATORS[operation.op_type](**arguments)
        results = results if isinstance(results, list) else [results]
        for output, result in zip(operation.outputs, results, strict=True):
            values[output.name] = result
            if operation.op_type != "classify":
                check_shape(operation.op_type, output.shape, np.shape(result))
    return {output.name: finished(values[output.name]) for output in function.outputs}


def check_shape(kind: str, said: Any, found: tuple[int, ...]) -> None:
    """What the program says of its shapes; a dynamic size has a name there."""
    fits = len(said) == len(found) and all(
        one == size for one, size in zip(said, found, strict=True) if isinstance(one, int | np.integer)
    )
    assert fits, (kind, said, found)


def finished(value: Any) -> Any:
    return value if isinstance(value, str | dict) else np.asarray(value, np.float32)


def wide(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def like(result: np.ndarray, x: Any) -> np.ndarray:
    return result.astype(np.asarray(x).dtype)


def cast(x: Any, dtype: str) -> np.ndarray:
    return np.asarray(x).astype(TYPES[dtype])


def quantize(input: Any, scale: Any, output_dtype: str, zero_point: Any = 0, axis: Any = None) -> np.ndarray:
    assert output_dtype == "int8" and np.ndim(scale) == 0
    return np.clip(np.rint(wide(input) / wide(scale)) + zero_point, -128, 127).astype(np.int8)


def dequantize(input: Any, scale: Any, zero_point: Any = 0, axis: Any = None) -> np.ndarray:
    return like((wide(input) - zero_point) * wide(scale), scale)


def affine(quantized_data: Any, zero_point: Any, scale: Any, axis: Any) -> np.ndarray:
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    return like((wide(quantized_data) - wide(zero_point).reshape(shape)) * wide(scale).reshape(shape), scale)


def palette(indices: Any, lut: Any, vector_axis: Any = None) -> np.ndarray:
    """`lut`: (groups of each axis of `indices`, entries, 1)."""
    groups = lut.shape[: indices.ndim]
    for axis, (size, group) in enumerate(zip(indices.shape, groups, strict=True)):
        lut = np.repeat(lut, size // group, axis=axis)
    flat = np.take_along_axis(lut[..., 0], np.asarray(indices, np.int64)[..., None], axis=-1)
    return flat[..., 0]


def linear(x: Any, weight: Any, bias: Any = 0) -> np.ndarray:
    return like(wide(x) @ wide(weight).T + wide(bias), x)


def conv(x: Any, weight: Any, bias: Any, strides: Any, pad_type: str, pad: Any, dilations: Any, groups: Any) -> Any:
    import torch

    assert pad_type == "valid" and not np.any(pad)
    tensors = [torch.from_numpy(wide(one)) for one in (x, weight, bias)]
    found = torch.nn.functional.conv2d(*tensors, stride=tuple(strides), dilation=tuple(dilations), groups=int(groups))
    return like(found.numpy(), x)


def matmul(x: Any, y: Any, transpose_x: Any, transpose_y: Any) -> np.ndarray:
    left = wide(x).swapaxes(-1, -2) if transpose_x else wide(x)
    right = wide(y).swapaxes(-1, -2) if transpose_y else wide(y)
    return like(left @ right, x)


def layer_norm(x: Any, axes: Any, gamma: Any, beta: Any, epsilon: Any) -> np.ndarray:
    values, axes = wide(x), tuple(axes)
    mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
    return like((values - mean) / np.sqrt(variance + wide(epsilon)) * wide(gamma) + wide(beta), x)


def batch_norm(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: Any) -> np.ndarray:
    shift, spread, factor, offset = (wide(one).reshape(-1, 1, 1) for one in (mean, variance, gamma, beta))
    return like((wide(x) - shift) / np.sqrt(spread + wide(epsilon)) * factor + offset, x)


def softmax(x: Any, axis: Any) -> np.ndarray:
    powers = np.exp(wide(x) - wide(x).max(int(axis), keepdims=True))
    return like(powers / powers.sum(int(axis), keepdims=True), x)


def gelu(x: Any, mode: str) -> np.ndarray:
    assert mode == "EXACT"
    return like(0.5 * wide(x) * (1 + np.vectorize(math.erf)(wide(x) / math.sqrt(2))), x)


def attention(query: Any, key: Any, value: Any, attn_mask: Any = None) -> np.ndarray:
    scores = like(wide(query) @ wide(key).swapaxes(-1, -2) / math.sqrt(query.shape[-1]), query)
    if attn_mask is not None:
        scores = like(wide(scores) + wide(attn_mask), query)
    return matmul(softmax(scores, -1), value, False, False)


def split(x: Any, split_sizes: Any, axis: Any) -> list[np.ndarray]:
    return np.split(x, np.cumsum(split_sizes)[:-1], int(axis))


def slices(x: Any, begin: Any, end: Any, stride: Any = None, **masks: Any) -> np.ndarray:
    free, whole, gone = (
        np.asarray(masks.get(name, [False] * x.ndim)) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    index = tuple(
        int(begin[at]) if gone[at] else slice(None if free[at] else int(begin[at]), None if whole[at] else int(end[at]))
        for at in range(x.ndim)
    )
    return x[index]


def gather(x: Any, indices: Any, axis: Any, batch_dims: Any, validate_indices: Any) -> np.ndarray:
    assert not batch_dims and np.all(np.asarray(indices) < np.shape(x)[int(axis)])
    return np.take(x, np.asarray(indices, np.int64), int(axis))


def classify(probabilities: Any, classes: Any) -> list[Any]:
    shares = wide(probabilities).reshape(-1)
    names = [str(one) for one in classes]
    return [names[int(shares.argmax())], dict(zip(names, map(float, shares), strict=True))]


OPERATORS = {
    "add": lambda x, y: like(wide(x) + wide(y), x),
    "batch_norm": batch_norm,
    "cast": cast,
    "classify": classify,
    "clip": lambda x, alpha, beta: like(np.clip(wide(x), wide(alpha), wide(beta)), x),
    "concat": lambda values, axis, interleave: np.concatenate(values, int(axis)),
    "constexpr_affine_dequantize": affine,
    "constexpr_lut_to_dense": palette,
    "conv": conv,
    "dequantize": dequantize,
    "equal": lambda x, y: np.equal(x, y),
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "gather": gather,
    "gelu": gelu,
    "greater": lambda x, y: np.greater(x, y),
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": matmul,
    "mul": lambda x, y: like(wide(x) * wide(y), x),
    "quantize": quantize,
    "range_1d": lambda end, start, step: np.arange(int(start), int(end), int(step), dtype=np.int32),
    "real_div": lambda x, y: like(wide(x) / wide(y), x),
    "reduce_sum": lambda x, axes, keep_dims: like(wide(x).sum(tuple(axes), keepdims=bool(keep_dims)), x),
    "relu": lambda x: np.maximum(x, 0),
    "reshape": lambda x, shape: np.reshape(x, tuple(shape)),
    "scaled_dot_product_attention": attention,
    "shape": lambda x: np.asarray(np.shape(x), np.int32),
    "slice_by_index": slices,
    "softmax": softmax,
    "split": split,
    "squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
    "transpose": lambda x, perm: np.transpose(x, tuple(perm)),
}
