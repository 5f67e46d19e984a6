"""Statistics that more than one part needs: normal quantiles, Wilson's interval, the bootstrap of a ratio of medians.

Everything here is NumPy and the standard library, and everything random takes a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgevit.errors import InputError
from edgevit.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array: TypeAlias = NDArray[np.float64]

Rounds: TypeAlias = Sequence[Sequence[float]]
"""Samples in the rounds they were taken in: drift is between rounds, noise within them."""


def normal_quantile(probability: float) -> float:
    """The x with P(Z <= x) = probability for a standard normal Z; probability in (0, 1)."""
    if not 0.0 < probability < 1.0:
        raise InputError(f"expected a probability strictly between 0 and 1, found {probability!r}")
    return NormalDist().inv_cdf(probability)


def wilson_interval(successes: float, samples: float, *, level: float = 0.95) -> Interval:
    """Two-sided score interval of one proportion, as shares in [0, 1] (Wilson 1927, JASA 22:209).

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 and at `samples` successes. Counts may
    be fractions, which is what planning with expected counts needs.
    """
    if not 0 <= successes <= samples or samples <= 0:
        raise InputError(f"expected 0 <= successes <= samples and samples > 0, found {successes} of {samples}")
    z = normal_quantile((1.0 + level) / 2.0)
    share = successes / samples
    centre = (share + z * z / (2.0 * samples)) / (1.0 + z * z / samples)
    half = z / (1.0 + z * z / samples) * math.sqrt(share * (1.0 - share) / samples + z * z / (4.0 * samples * samples))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == samples else min(1.0, centre + half)
    return Interval(low=low, high=high, level=level)


def median_ratio(
    numerator: Rounds,
    denominator: Rounds,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, Interval]:
    """median(numerator) / median(denominator) of all samples, with its percentile bootstrap interval.

    Samples are positive and of one unit. Latencies of one round share the machine's state, so treating every call as
    independent gives intervals that are far too narrow: rounds are drawn with replacement, then samples within each
    drawn round (two-stage bootstrap, Davison and Hinkley 1997, section 3.8). With `paired` both sides were measured
    in the same interleaved rounds, and the same rounds are drawn for both, so that drift common to both cancels.
    Raises InputError for an empty round, a sample that is not finite and positive, or paired sides with different
    numbers of rounds.
    """
    over, under = _Flat("numerator", numerator), _Flat("denominator", denominator)
    if paired and len(over.sizes) != len(under.sizes):
        raise InputError(
            f"expected as many rounds on both paired sides, found {len(over.sizes)} and {len(under.sizes)}"
        )
    if not 0.0 < level < 1.0 or resamples < 1:
        raise InputError(f"expected a level in (0, 1) and at least 1 resample, found {level} and {resamples}")
    rng = np.random.default_rng(seed)
    ratios = np.empty(resamples, dtype=np.float64)
    for index in range(resamples):
        over_rounds = rng.integers(len(over.sizes), size=len(over.sizes))
        under_rounds = over_rounds if paired else rng.integers(len(under.sizes), size=len(under.sizes))
        ratios[index] = over.resampled_median(over_rounds, rng) / under.resampled_median(under_rounds, rng)
    low, high = np.quantile(ratios, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    value = float(np.median(over.values) / np.median(under.values))
    return value, Interval(low=float(low), high=float(high), level=level)


class _Flat:
    """Rounds as one array with their offsets and sizes; built once, read by every resample."""

    def __init__(self, side: str, rounds: Rounds) -> None:
        if not rounds or any(len(samples) == 0 for samples in rounds):
            raise InputError(
                f"expected at least one round and no empty round in the {side}, found {len(rounds)} rounds"
            )
        self.values: Float64Array = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in rounds])
        if not bool(np.all(np.isfinite(self.values) & (self.values > 0.0))):
            raise InputError(
                f"expected finite positive samples in the {side}, found {self.values.min()} as the smallest"
            )
        self.sizes = np.array([len(samples) for samples in rounds], dtype=np.int64)
        self.offsets = np.cumsum(self.sizes) - self.sizes

    def resampled_median(self, rounds: NDArray[np.int64], rng: np.random.Generator) -> float:
        sizes = self.sizes[rounds]
        lengths = np.repeat(sizes, sizes)
        drawn = np.repeat(self.offsets[rounds], sizes) + (rng.random(lengths.size) * lengths).astype(np.int64)
        return float(np.median(self.values[drawn]))
