"""Equalization: moving the spread of a linear layer's input channels into its weight, where scales are per channel.

With one positive factor s_c per input channel, x Wᵀ = (x / s)(W · s)ᵀ, so nothing changes in float; but x / s has
fewer outlying channels for the one scale of the input to serve. The factors are SmoothQuant's (Xiao et al.,
"SmoothQuant: accurate and efficient post-training quantization for large language models", ICML 2023, equation 4),

    s_c = max|x_c|^α / max|w_c|^(1-α),

here with a geometric mean of 1 and with a size of the channel that generalizes better than its largest element
(`channel_sizes`). Which α helps differs from layer to layer, and none is often best, so it is searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from edgevit.errors import PlanError
from edgevit.quantize.histogram import bin_of, count_magnitudes, limit_exponent
from edgevit.quantize.histogram_ranges import min_max
from edgevit.quantize.output_error import Probe, error_at, prepare
from edgevit.quantize.scales import largest_magnitude

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgevit.types import ChannelStats

    FloatArray = NDArray[np.float32]

ALPHAS = (0.15, 0.3, 0.5, 0.65, 0.8, 0.95)

_BOUND = 2.0**10
"""Factors stay within 1/1024 and 1024: ten times the strongest outlier channels seen in trained Transformers."""
_WORTH = 0.9
"""Equalization changes weights and norms, so it has to take a tenth off the error; less is within its noise."""
_SPIKE = 1.5
"""How far a channel's largest element may exceed what its power suggests before it counts as an outlier's."""
_ROWS = 256
"""Rows that the error is estimated on, here where it is estimated a hundred times for one tensor."""
_OUTPUTS = 512
"""Output channels of each layer that it is estimated on; the largest |w| of an input channel is that of all."""
_NARROWEST = 2.0**-8
_RANGES = 25
_TOO_MUCH = 1.3


class Equalization(NamedTuple):
    """The factors of one tensor that feeds linear layers, and the layers' relative squared output error."""

    alpha: float | None
    """None where equalization does not help; the factors are then all 1."""
    factors: FloatArray
    """Per input channel, float32: the weight's columns are multiplied by it, the input is divided by it."""
    error_before: float
    error_after: float


def choose_equalization(
    stats: ChannelStats, weights: Sequence[FloatArray], alphas: Sequence[float] = ALPHAS
) -> Equalization:
    """The factors with the least error of the layers' outputs, with the input's range chosen anew for each α.

    `weights` are those of all linear layers that read the tensor, (out, channels) each: they have to share factors.
    Errors are those of `output_error`, with min-max weight scales. Raises PlanError where shapes do not fit.
    """
    channels = stats.channel_max.size
    for weight in weights:
        if weight.ndim != 2 or weight.shape[1] != channels:
            raise PlanError(f"expected weights of shape (out, {channels}) to equalize, got {weight.shape}")
    largest = np.max([largest_magnitude(weight, 0) for weight in weights], axis=0)
    sizes = channel_sizes(stats)
    stats = msgspec.structs.replace(stats, rows=_some(stats.rows, _ROWS))
    weights = [_some(weight, _OUTPUTS) for weight in weights]
    before = _least_error(prepare(stats, weights))

    def tried(alpha: float) -> Equalization:
        factors = equalization_factors(sizes, largest, alpha)
        after = _least_error(prepare(equalized_stats(stats, factors), [weight * factors for weight in weights]))
        return Equalization(alpha, factors, before, after)

    best = _descend(alphas, tried)
    if best is not None and best.error_after < before * _WORTH:
        return best
    return Equalization(None, np.ones(channels, np.float32), before, before)


def _descend(alphas: Sequence[float], tried: Callable[[float], Equalization]) -> Equalization | None:
    """The best α, from the middle one on in the direction that gets better; None of no α.

    The error has one valley over α. For the layers of ViT-Tiny and ViT-B this found the best of all, or one that the
    noise of the estimate does not tell from it, in half as many trials.
    """
    if not alphas:
        return None
    middle = (len(alphas) - 1) // 2
    start = best = tried(alphas[middle])
    for side in (alphas[:middle][::-1], alphas[middle + 1 :]):
        for alpha in side:
            found = tried(alpha)
            if found.error_after >= best.error_after:
                break
            best = found
        if best is not start:
            break
    return best


def _some(rows: FloatArray, most: int) -> FloatArray:
    """At most `most` of the rows, evenly spread."""
    return rows[:: -(-len(rows) // most)]


def channel_sizes(stats: ChannelStats) -> FloatArray:
    """How large each channel gets, float32: its root mean square times the median channel's crest factor max / rms.

    A maximum over the calibration samples is a noisy number, and dividing by it lines all channels up at the edge of
    the range, where new samples exceed it: with 200 rows, layers of a tiny ViT went from 40 dB to 29 on new rows while
    they seemed to gain 1 dB. Only a channel with a far larger maximum, of massive activations, is sized by that.
    """
    largest, rms = stats.channel_max.astype(np.float64), np.sqrt(stats.channel_power)
    live = rms > 0
    crest = float(np.median(largest[live] / rms[live])) if live.any() else 1.0
    sizes: FloatArray = np.maximum(rms * crest, largest / _SPIKE).astype(np.float32)
    return sizes


def equalization_factors(channel_size: FloatArray, weight_max: FloatArray, alpha: float) -> FloatArray:
    """size_c^α / max|w_c|^(1-α), float32, scaled to a geometric mean of 1 and kept within 1/1024 and 1024.

    A channel that never carried anything keeps 1. One that no weight reads gets the largest factor: its outliers are
    divided away for nothing.
    """
    x, w = channel_size.astype(np.float64), weight_max.astype(np.float64)
    factors = np.ones(x.size)
    live = (x > 0) & (w > 0)
    if live.any():
        logarithm = alpha * np.log(x[live]) - (1 - alpha) * np.log(w[live])
        factors[live] = np.exp(np.clip(logarithm - logarithm.mean(), -np.log(_BOUND), np.log(_BOUND)))
    factors[(x > 0) & (w == 0)] = _BOUND
    return factors.astype(np.float32)


def equalized_stats(stats: ChannelStats, factors: FloatArray) -> ChannelStats:
    """The statistics of the input divided by `factors`, without another calibration.

    Everything per channel and the rows are exact. The histogram is that of the rows, brought to the number of
    elements seen, with the outliers that the rows miss: a channel that was seen larger, and with more power, than its
    rows show gets as many elements of its largest size as make up the power. `low` and `high` are the largest of all
    channels with either sign that occurred.
    """
    wide = factors.astype(np.float64)
    rows = stats.rows / factors
    channel_max = (stats.channel_max / factors).astype(np.float32)
    largest = float(channel_max.max())
    exponent, bins = limit_exponent(largest), stats.histogram.size
    histogram = np.rint(count_magnitudes(rows, exponent, bins) * (stats.count / len(rows)))
    missed = stats.channel_max > np.abs(stats.rows).max(axis=0)
    power = np.square(stats.rows[:, missed], dtype=np.float64).mean(axis=0)
    elements = (stats.channel_power[missed] - power) * stats.count / stats.channel_max[missed].astype(np.float64) ** 2
    np.add.at(histogram, bin_of(channel_max[missed], exponent, bins), np.maximum(np.rint(elements), 1))
    return msgspec.structs.replace(
        stats,
        low=-largest if stats.low < 0 else 0.0,
        high=largest if stats.high > 0 else 0.0,
        limit=2.0**exponent,
        histogram=histogram.astype(np.int64),
        channel_max=channel_max,
        channel_mean=stats.channel_mean / wide,
        channel_power=stats.channel_power / wide**2,
        rows=rows,
    )


def _least_error(probe: Probe) -> float:
    """The least output error over ranges from min-max downwards, until clipping clearly takes over."""
    best = np.inf
    for threshold in min_max(probe.stats) * np.geomspace(1, _NARROWEST, _RANGES):
        error = error_at(probe, float(threshold))
        if error > best * _TOO_MUCH:
            break
        best = min(best, error)
    return best
