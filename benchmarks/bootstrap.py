"""A median with how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.types import Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def median_of(values: ArrayLike, level: float = 0.95) -> tuple[float, Interval]:
    """Median with its percentile bootstrap interval."""
    given = np.asarray(values)
    drawn = np.median(np.random.default_rng(0).choice(given, (2000, len(given))), axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(np.median(given)), Interval(low=float(low), high=float(high), level=level)
