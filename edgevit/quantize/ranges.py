"""Which ranges a layer's input and weight are quantized with, chosen by what they do to the layer's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgevit.errors import PlanError
from edgevit.quantize.histogram_ranges import NAMED_METHODS, min_max, named_range
from edgevit.quantize.output_error import Probe, error_at, prepare
from edgevit.quantize.scales import levels, scale_from_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.types import ChannelStats

    FloatArray = NDArray[np.float32]

_NARROWEST = 2.0**-8
_TIE = 1.005
"""Errors within half a percent are a tie: the sample cannot tell them apart, and a wider range is safer on new data."""
_HOPELESS = 4.0
"""Narrower ranges are not tried once clipping has made the error this many times the best."""

_COARSE = np.linspace(1.0, 0.6, 9)
_FINE = np.array([-0.0375, -0.025, -0.0125, 0.0125, 0.025, 0.0375])
_BLOCK = 1 << 16
"""Elements of a weight worked on at a time, so that the scratch arrays stay in the cache."""


class WeightScales(NamedTuple):
    """The scales of a weight and what they cost."""

    scale: FloatArray
    """One per output channel, float32."""
    error: float
    """Importance-weighted squared error, relative to the importance-weighted squares of the weight."""
    min_max_error: float
    """The same for min-max scales."""


# ------------------------------------------------------------------------------------------------- inputs


def choose_input_range(
    stats: ChannelStats, weight: FloatArray, method: str = "search", weight_scale: FloatArray | None = None
) -> tuple[float, str]:
    """The range of a layer's input (the largest |x| to represent) and the name of the method that gave it.

    `weight` is (out, channels), or (out, channels · kernel) for a convolution; `weight_scale` its scales, by default
    min-max. "search" takes the range with the least error of the layer's output (`output_error`) out of all named
    methods and a geometric grid, and the wider one of two that tie; its name is then `search:` and the candidate.
    Any other method is one of `histogram_ranges`. Raises PlanError for an unknown one.
    """
    if method != "search":
        return named_range(stats, method), method
    probe = prepare(stats, [weight], None if weight_scale is None else [weight_scale])
    threshold, name, _ = search_input_range(probe)
    return threshold, f"search:{name}"


def search_input_range(probe: Probe) -> tuple[float, str, float]:
    """The range with the least output error, the candidate's name, and that error."""
    widest = min_max(probe.stats)
    if widest == 0:
        return 0.0, "min-max", error_at(probe, 0.0)
    named = {named_range(probe.stats, method): method for method in reversed(NAMED_METHODS)}
    grid = widest * np.geomspace(1, _NARROWEST, 17)
    errors: dict[float, float] = {}
    for threshold in sorted({*named, *grid.tolist()} - {0.0}, reverse=True):
        errors[threshold] = error_at(probe, threshold)
        if errors[threshold] > _HOPELESS * min(errors.values()):
            break
    tried = list(errors)
    best = tried.index(min(tried, key=errors.__getitem__))
    around = np.geomspace(tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)], 6)[1:-1]
    errors |= {threshold: error_at(probe, threshold) for threshold in around.tolist()}
    bound = min(errors.values()) * _TIE
    threshold = max(candidate for candidate, error in errors.items() if error <= bound)
    return threshold, named.get(threshold, f"grid-{threshold / widest:.3f}"), errors[threshold]


# ------------------------------------------------------------------------------------------------ weights


def choose_weight_scales(weight: FloatArray, importance: NDArray[np.floating] | None = None) -> WeightScales:
    """The scale per output channel with the least importance-weighted squared error of the weight.

    `weight` is (out, ...), `importance` one number of at least 0 per input channel, E[x²] of the channel, so that the
    sum over a row estimates the squared error of the output; None weighs all the same. 9 fractions of the largest
    |w| from 1.0 to 0.6 are tried, then 6 around the best; min-max wins a tie. Raises PlanError where they do not fit.
    """
    matrix = np.abs(np.asarray(weight, dtype=np.float32).reshape(weight.shape[0], -1))
    power = _importance(importance, matrix.shape[1])
    largest = matrix.max(axis=1)
    fractions = np.ones(len(matrix), np.float32)
    error, before, signal = 0.0, 0.0, 0.0
    step = max(1, _BLOCK // matrix.shape[1])
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        scale = scale_from_range(largest[start : start + step])[:, None]
        codes = np.divide(block, scale, dtype=np.float32)
        fraction, best, first = _best_fractions(codes, power)
        fractions[start : start + step] = fraction
        squares = scale[:, 0].astype(np.float64) ** 2
        error += float(squares @ best)
        before += float(squares @ first)
        signal += float(squares @ (np.square(codes) @ power))
    return WeightScales(scale_from_range(largest * fractions), error / (signal or 1.0), before / (signal or 1.0))


def _best_fractions(
    codes: FloatArray, power: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Per row of |w| / min-max scale: the best fraction of the scale, its error and min-max's, in squared steps."""
    scratch = np.empty_like(codes), np.empty_like(codes)

    def error_of(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
        # e = v - min(round(v), 127) with v = |w| / scale: symmetric quantization needs no sign.
        value, rounded = scratch
        np.divide(codes, fraction.astype(np.float32)[:, None], out=value)
        np.rint(value, out=rounded)
        np.minimum(rounded, np.float32(levels()), out=rounded)
        np.subtract(value, rounded, out=value)
        np.multiply(value, value, out=value)
        squared: NDArray[np.float64] = (value @ power) * fraction**2
        return squared

    best_fraction = np.ones(len(codes))
    first = best = error_of(best_fraction)
    for candidates in (_COARSE[1:], _FINE):
        center = np.zeros(len(codes)) if candidates is not _FINE else best_fraction
        for candidate in candidates:
            fraction = np.minimum(center + candidate, 1.0)
            error = error_of(fraction)
            better = error < best
            best = np.where(better, error, best)
            best_fraction = np.where(better, fraction, best_fraction)
    return best_fraction, best, first


def _importance(importance: NDArray[np.floating] | None, columns: int) -> FloatArray:
    """Per column of the weight's matrix, float32, largest 1; a convolution's channels are repeated over its kernel."""
    if importance is None:
        return np.ones(columns, np.float32)
    if columns % importance.size or not (np.isfinite(importance) & (importance >= 0)).all():
        raise PlanError(f"expected {columns} importances of at least 0, got an array of shape {importance.shape}")
    largest = float(importance.max())
    if largest == 0:
        return np.ones(columns, np.float32)
    return np.repeat((importance / largest).astype(np.float32), columns // importance.size)
