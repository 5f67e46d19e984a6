"""The histogram of |x| that observers keep: equal bins over [0, limit), with a power of two for a limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_EXPONENT = -100
"""No limit is below 2⁻¹⁰⁰: a float32 activation that small is zero for every purpose here."""


def limit_exponent(largest: float) -> int:
    """The smallest e from -100 with `largest` < 2ᵉ, strictly; `largest` is finite and at least 0."""
    return SMALLEST_EXPONENT if largest == 0 else max(math.frexp(largest)[1], SMALLEST_EXPONENT)


def bin_of(values: NDArray[np.float32], exponent: int, bins: int) -> NDArray[np.intp]:
    """The bin of each |x| among `bins` equal ones over [0, 2^exponent), which must hold them all: intp, same shape.

    `bins` is a power of two, so that the index is computed without rounding.
    """
    scaled = np.multiply(values, np.float32(math.ldexp(bins, -exponent)))
    np.abs(scaled, out=scaled)
    # Through int32, which has a vector instruction; float32 to int64 directly takes three times as long.
    return scaled.astype(np.int32).astype(np.intp)


def count_magnitudes(values: NDArray[np.float32], exponent: int, bins: int) -> NDArray[np.int64]:
    """How many |x| fall into each of `bins` equal bins over [0, 2^exponent), int64."""
    return np.bincount(bin_of(values, exponent, bins).reshape(-1), minlength=bins)
