"""Clipping ranges of an activation from its histogram alone: min-max, percentile, mean squared error, entropy.

Each is a function of a layer's `ChannelStats` and returns the largest |x| that is to be represented, which
`scales.scale_from_range` turns into a scale. `ranges.choose_input_range` decides between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import PlanError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from edgevit.types import ChannelStats

NAMED_METHODS = ("min-max", "percentile-99.999", "percentile-99.99", "percentile-99.9", "mse", "entropy")
"""What "search" tries; `named_range` takes any other percentile too."""

_LEVELS = 127
_ENTROPY_LEVELS = 128
_ENTROPY_STEPS = 64
_NARROWEST = 2.0**-8
"""Relative to min-max. Massive activations of a ViT are up to 100 times the rest; below this nothing is left."""


def named_range(stats: ChannelStats, method: str) -> float:
    """The range by a method's name: one of `NAMED_METHODS`, or `percentile-P` with P in (0, 100]. Else PlanError."""
    if method == "min-max":
        return min_max(stats)
    if method == "mse":
        return least_squares(stats)
    if method == "entropy":
        return entropy(stats)
    prefix, _, share = method.partition("-")
    try:
        if prefix == "percentile" and 0 < float(share) <= 100:
            return percentile(stats, float(share))
    except ValueError:
        pass
    raise PlanError(f"expected a range method out of search, {', '.join(NAMED_METHODS)}; got '{method}'")


def min_max(stats: ChannelStats) -> float:
    """The largest |x| that was seen."""
    return float(max(-stats.low, stats.high, 0.0))


def percentile(stats: ChannelStats, share: float) -> float:
    """The smallest range that holds `share` percent of all elements, to within one bin of the histogram."""
    counts = stats.histogram
    cumulative = np.cumsum(counts)
    wanted = cumulative[-1] * (share / 100)
    last = min(int(np.searchsorted(cumulative, wanted)), counts.size - 1)
    inside = (wanted - (cumulative[last] - counts[last])) / max(counts[last], 1)
    return min(float((last + inside) * stats.limit / counts.size), min_max(stats))


def least_squares(stats: ChannelStats) -> float:
    """The range with the least mean squared error between x and its quantized value, to within 2 %."""
    widest = min_max(stats)
    if widest == 0:
        return 0.0
    coarse = widest * np.geomspace(1, _NARROWEST, 33)
    best = int(np.argmin(mean_squared_error(stats, coarse)))
    fine = np.geomspace(coarse[max(best - 1, 0)], coarse[min(best + 1, 32)], 17)
    return float(fine[np.argmin(mean_squared_error(stats, fine))])


def entropy(stats: ChannelStats) -> float:
    """The range whose 128-level histogram is closest to the full one by Kullback-Leibler divergence.

    Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017. Clipped elements are counted in the last bin of the
    reference; 64 ranges are tried instead of one per bin.
    """
    counts = stats.histogram.astype(np.float64)
    occupied = int(np.flatnonzero(counts)[-1]) + 1
    if min_max(stats) == 0 or occupied <= _ENTROPY_LEVELS:
        return min_max(stats)
    total, cumulative = counts.sum(), np.cumsum(counts)
    best, best_divergence = occupied, np.inf
    for bins in np.unique(np.linspace(_ENTROPY_LEVELS, occupied, _ENTROPY_STEPS).astype(int))[::-1]:
        if cumulative[bins - 1] == 0:
            break
        reference = counts[:bins].copy()
        reference[-1] += total - cumulative[bins - 1]
        starts = np.arange(_ENTROPY_LEVELS) * bins // _ENTROPY_LEVELS
        sizes = np.diff(starts, append=bins)
        filled = reference > 0
        # Each level's count is spread evenly over those of its bins that are not empty.
        level = np.add.reduceat(counts[:bins], starts) / np.maximum(np.add.reduceat(filled, starts, dtype=int), 1)
        coarse = np.repeat(level, sizes)[filled] / cumulative[bins - 1]
        exact = reference[filled] / total
        divergence = float(np.sum(exact * np.log(exact / np.maximum(coarse, 1e-12))))
        if divergence < best_divergence:
            best, best_divergence = int(bins), divergence
    return float(min(best * stats.limit / counts.size, min_max(stats)))


def mean_squared_error(stats: ChannelStats, ranges: ArrayLike) -> NDArray[np.float64]:
    """E[(x - x̂)²] over all elements for each of `ranges` (positive): float64, one per range.

    The error of one bin is the exact integral over a uniform density: with s the step and k = min(round(u / s), 127),
    ∫₀ᵘ (x - x̂)² dx = k s³ / 12 + (u - k s)³ / 3. That stays right where a step is narrower than a bin.
    """
    steps = np.asarray(ranges, dtype=np.float64)[:, None] / _LEVELS
    edges = _edges(stats)
    codes = np.minimum(np.rint(edges / steps), _LEVELS)
    integral = codes * (steps**3 / 12) + (edges - codes * steps) ** 3 / 3
    return _mean(stats, edges, integral)


def _edges(stats: ChannelStats) -> NDArray[np.float64]:
    """The histogram's bin edges, with the last bin that holds anything ending at the largest |x|.

    It keeps a sixteenth of its width, so that its density stays finite when the largest |x| is its lower edge.
    """
    bins = stats.histogram.size
    width = stats.limit / bins
    edges: NDArray[np.float64] = np.arange(bins + 1) * width
    last = int(np.flatnonzero(stats.histogram)[-1])
    edges[last + 1 :] = np.clip(min_max(stats), edges[last] + width / 16, edges[last + 1])
    return edges


def _mean(stats: ChannelStats, edges: NDArray[np.float64], integral: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over all elements of a function, from its integral at the edges, for a uniform density in each bin."""
    widths = np.diff(edges)
    density = np.divide(stats.histogram, widths, out=np.zeros_like(widths), where=widths > 0)
    mean: NDArray[np.float64] = np.dot(np.diff(integral, axis=-1), density / stats.histogram.sum())
    return mean
