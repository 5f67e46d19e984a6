"""Right answers by the length of the text: a context of fixed size holds short texts and loses long ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.parity.tasks import Tally, tally
from edgevit.types import LengthBin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.parity.metrics import BoolArray

WIDTH = 4
"""Tokens of a bin; twice as many where there would be more than `MOST_BINS`. Fixed, so that models can be compared."""
MOST_BINS = 8


def tally_by_length(
    lengths: Sequence[int],
    answers: tuple[NDArray[Any], NDArray[Any]],
    truths: NDArray[Any] | None,
    finite: BoolArray,
) -> dict[int, Tally]:
    """One batch of answers, reference's and build's, counted by the length of their texts."""
    reference, build = answers
    sizes = np.asarray(lengths)
    counted = {}
    for length in sorted(set(lengths)):
        rows = sizes == length
        truth = None if truths is None else truths[rows]
        counted[length] = tally(reference[rows], build[rows], truth, finite[rows])
    return counted


def added(one: Mapping[int, Tally], other: Mapping[int, Tally]) -> dict[int, Tally]:
    """The counts of two batches together."""
    return {length: one.get(length, Tally()) + other.get(length, Tally()) for length in sorted({*one, *other})}


def length_bins(counts: Mapping[int, Tally], *, labelled: bool) -> tuple[LengthBin, ...]:
    """Bins of equal width from 1 token on; those without an answer are left out. No bin at all for fewer than two."""
    if not counts:
        return ()
    width = WIDTH
    while max(counts) > width * MOST_BINS:
        width *= 2
    bins: dict[int, Tally] = {}
    for length, one in counts.items():
        place = (length - 1) // width
        bins[place] = bins.get(place, Tally()) + one
    if len(bins) < 2:
        return ()
    return tuple(
        LengthBin(
            low=place * width + 1,
            high=(place + 1) * width,
            answers=one.samples,
            reference=100.0 * one.reference_right / one.samples if labelled else None,
            build=100.0 * one.build_right / one.samples if labelled else None,
            agreement=100.0 * one.agreed / one.samples,
        )
        for place, one in sorted(bins.items())
    )
