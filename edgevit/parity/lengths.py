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
"""Tokens of a bin; twice as many where `MOST_BINS` would leave out too much. Fixed, so that models can be compared."""
MOST_BINS = 8
LEFT_OVER = 0.05
"""Share of the answers, at most, that may belong to longer texts than the bins reach; the last one takes them in."""


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
    """Bins of equal width from 1 token on, the last one up to the longest text; those without an answer are left out.

    No bin at all for fewer than two.
    """
    answers = sum(one.samples for one in counts.values())
    if not answers:
        return ()
    width = WIDTH
    while sum(one.samples for length, one in counts.items() if length > width * MOST_BINS) > LEFT_OVER * answers:
        width *= 2
    bins: dict[int, Tally] = {}
    for length, one in counts.items():
        place = min((length - 1) // width, MOST_BINS - 1)
        bins[place] = bins.get(place, Tally()) + one
    if len(bins) < 2:
        return ()
    last = -(-max(counts) // width)
    return tuple(
        LengthBin(
            low=place * width + 1,
            high=width * (max(last, MOST_BINS) if place == MOST_BINS - 1 else place + 1),
            answers=one.samples,
            reference=100.0 * one.reference_right / one.samples if labelled else None,
            build=100.0 * one.build_right / one.samples if labelled else None,
            agreement=100.0 * one.agreed / one.samples,
        )
        for place, one in sorted(bins.items())
    )
