"""Symmetric integer quantization, exactly as ONNX QuantizeLinear and DequantizeLinear do it.

    q = saturate(round_half_even(x / scale))        x̂ = q · scale        zero point 0, always

The division and the product are float32, as in the engines, so that a simulated value and an executed one agree bit
for bit. `scale` is one number (per tensor) or one per index of `axis` (per channel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import PlanError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SMALLEST_SCALE = 2.0**-63
"""Engines fold input scale · weight scale into one float32. The product of two scales of at least 2⁻⁶³ is a normal
float32 (≥ 2⁻¹²⁶), so it survives processors that flush denormals to zero, and its reciprocal is finite."""


def levels(bits: int = 8) -> int:
    """The largest positive code of a signed integer of `bits`: 127 for 8 bits, 7 for 4."""
    if not 2 <= bits <= 8:
        raise PlanError(f"expected 2 to 8 bits, got {bits}: choose 8 for int8 or 4 for int4")
    return (1 << (bits - 1)) - 1


def scale_from_range(absmax: ArrayLike, bits: int = 8) -> NDArray[np.float32]:
    """The scale that maps ±`absmax` onto the largest code: absmax / (2^(bits-1) - 1), float32, same shape.

    A range of zero, or one so small that engines would lose the scale, gets `SMALLEST_SCALE`, which is positive and
    finite: zeros still quantize to zero. A negative, infinite or NaN range is a PlanError.
    """
    largest = np.asarray(absmax, dtype=np.float32)
    if not (np.isfinite(largest) & (largest >= 0)).all():
        wrong = largest[~(np.isfinite(largest) & (largest >= 0))].flat[0]
        raise PlanError(
            f"expected finite ranges of at least 0, got {wrong}: look for NaN or infinity in the weights or inputs"
        )
    scale: NDArray[np.float32] = np.maximum(largest / np.float32(levels(bits)), np.float32(SMALLEST_SCALE))
    return scale


def quantize(
    x: ArrayLike, scale: ArrayLike, axis: int | None = None, *, bits: int = 8, narrow: bool = False
) -> NDArray[np.int8]:
    """Codes of `x` (float32, any shape): int8, same shape, in [-128, 127], or [-127, 127] when `narrow`.

    `narrow` is for weights, whose kernels (OpenVINO, TensorRT) expect a range that is symmetric around zero.
    Infinities saturate; NaN has no code and is a PlanError.
    """
    values = np.asarray(x, dtype=np.float32)
    if np.isnan(values).any():
        raise PlanError("expected numbers to quantize, got NaN: look for NaN in the weights or inputs")
    codes: NDArray[np.int8] = whole_codes(values, scale, axis, bits=bits, narrow=narrow).astype(np.int8)
    return codes


def dequantize(q: NDArray[Any], scale: ArrayLike, axis: int | None = None) -> NDArray[np.float32]:
    """Values of the codes `q`: float32, same shape."""
    values: NDArray[np.float32] = np.multiply(q, along_axis(scale, q.shape, axis), dtype=np.float32)
    return values


def fake_quantize(
    x: ArrayLike, scale: ArrayLike, axis: int | None = None, *, bits: int = 8, narrow: bool = False
) -> NDArray[np.float32]:
    """`dequantize(quantize(x))` without the trip through int8: float32, same shape. NaN stays NaN."""
    values = np.asarray(x, dtype=np.float32)
    codes = whole_codes(values, scale, axis, bits=bits, narrow=narrow)
    codes += np.float32(0)  # -0.0 becomes 0.0, as it does through int8
    codes *= along_axis(scale, values.shape, axis)
    return codes


def whole_codes(
    x: NDArray[np.float32], scale: ArrayLike, axis: int | None = None, *, bits: int = 8, narrow: bool = False
) -> NDArray[np.float32]:
    """The codes of `quantize` as whole float32 numbers, for arithmetic: float32, same shape. NaN stays NaN."""
    highest = np.float32(levels(bits))
    lowest = -highest if narrow else -highest - np.float32(1)
    codes = np.empty_like(x)
    with np.errstate(over="ignore"):  # an overflow to infinity saturates, as it should
        np.divide(x, along_axis(scale, x.shape, axis), out=codes)
    np.rint(codes, out=codes)
    # np.clip costs three times as much as these two.
    np.minimum(codes, highest, out=codes)
    np.maximum(codes, lowest, out=codes)
    return codes


def largest_magnitude(matrix: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """max |x| along `axis`: float32. Without the copy that np.abs would make of a whole weight."""
    largest: NDArray[np.float32] = np.maximum(matrix.max(axis=axis), -matrix.min(axis=axis))
    return largest


def along_axis(scale: ArrayLike, shape: tuple[int, ...], axis: int | None) -> NDArray[np.float32]:
    """`scale` checked and reshaped to broadcast over an array of `shape`: () or size 1 everywhere but `axis`."""
    steps = np.asarray(scale, dtype=np.float32)
    if not (np.isfinite(steps) & (steps > 0)).all():
        raise PlanError("expected scales that are positive and finite in float32, got zero, negative, infinite or NaN")
    if axis is None:
        if steps.size != 1:
            raise PlanError(f"expected one scale per tensor, got {steps.size}: pass the channels' axis")
        return steps.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise PlanError(f"expected a channel axis inside an array of shape {shape}, got {axis}")
    if steps.shape != (shape[axis],):
        raise PlanError(f"expected {shape[axis]} scales for axis {axis} of shape {shape}, got shape {steps.shape}")
    broadcast = [1] * len(shape)
    broadcast[axis] = shape[axis]
    return steps.reshape(broadcast)
