"""From raw call times to a Latency: percentiles, thinning, drift across rounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.types import Latency

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES_KEPT = 2000
"""Per entry; a fast model gives a hundred thousand, and a report of ten builds must stay readable."""


def latency_of(rounds: Sequence[Sequence[int]], keep: int = SAMPLES_KEPT) -> Latency:
    """Latency in milliseconds from nanoseconds per call, by round; every round needs a sample.

    Percentiles interpolate linearly between order statistics (NumPy's default) and use every call; only the raw
    samples kept beside them are thinned, each round to the same share, evenly over time.
    """
    calls = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in rounds]) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(calls, [50, 90, 99]))
    kept = thin(rounds, keep)
    return Latency(
        p50=p50,
        p90=p90,
        p99=p99,
        mean=float(calls.mean()),
        samples=tuple(sample / 1e6 for samples in kept for sample in samples),
        calls=len(calls),
        round_sizes=tuple(len(samples) for samples in kept),
    )


def thin(rounds: Sequence[Sequence[int]], keep: int) -> list[Sequence[int]]:
    """`keep` samples over all rounds, plus one for each round that would get none; evenly spaced within each."""
    total = sum(len(samples) for samples in rounds)
    if total <= keep:
        return list(rounds)
    thinned: list[Sequence[int]] = []
    for samples in rounds:
        size = max(1, len(samples) * keep // total)
        # The middle of each of `size` equal stretches, so that neither end of a round is favoured.
        chosen = ((2 * np.arange(size) + 1) * len(samples) // (2 * size)).tolist()
        thinned.append([samples[index] for index in chosen])
    return thinned


def rounds_of(latency: Latency) -> list[Sequence[float]]:
    """The kept samples by round, milliseconds; a single round when the report does not say."""
    if not latency.round_sizes:
        return [latency.samples]
    ends = np.cumsum(latency.round_sizes).tolist()
    return [latency.samples[end - size : end] for end, size in zip(ends, latency.round_sizes, strict=True)]


def drift_of(rounds: Sequence[Sequence[float]]) -> float | None:
    """Median latency of the last third of the rounds over that of the first third, minus 1; None for one round.

    Positive: it became slower (heat, a busy neighbour). Thirds, because the extreme rounds of many always differ.
    """
    if len(rounds) < 2:
        return None
    medians = [float(np.median(samples)) for samples in rounds]
    third = max(1, len(rounds) // 3)
    return float(np.median(medians[-third:]) / np.median(medians[:third])) - 1


def drift_noise_of(rounds: Sequence[Sequence[float]]) -> float | None:
    """How far from 0 `drift_of` lies by chance at most, 19 times of 20; None for fewer than six rounds.

    Two standard errors of a ratio of medians of thirds. How much a round scatters is taken from the differences of
    neighbours (von Neumann 1941), which a slow drift hardly touches, and robustly, by their median.
    """
    if len(rounds) < 6:
        return None
    medians = np.array([float(np.median(samples)) for samples in rounds])
    scatter = 1.4826 * float(np.median(np.abs(np.diff(medians)))) / math.sqrt(2)
    third = len(rounds) // 3
    # The standard error of a median is that of a mean times 1.2533, and there are two of them.
    return 2 * math.sqrt(2) * 1.2533 * scatter / math.sqrt(third) / float(np.median(medians))
