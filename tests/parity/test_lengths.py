"""Bins of lengths: equal, the last one open, and wide enough that nearly every text has a bin of its own width."""

from __future__ import annotations

import pytest

from edgevit.parity.lengths import MOST_BINS, length_bins
from edgevit.parity.tasks import Tally


def counts(texts: dict[int, int]) -> dict[int, Tally]:
    """Tallies of so many texts of each length, of which the build gets half."""
    return {
        length: Tally(samples=number, agreed=number, reference_right=number, build_right=number // 2)
        for length, number in texts.items()
    }


@pytest.mark.parametrize(
    ("texts", "bounds"),
    [
        ({1: 2, 4: 2, 5: 2, 9: 2}, [(1, 4), (5, 8), (9, 12)]),
        ({3: 10, 40: 10}, [(1, 8), (33, 40)]),
        # Two of a hundred beyond the last bin are taken in by it, and it says up to where it goes.
        ({3: 50, 30: 48, 66: 2}, [(1, 4), (29, 68)]),
        ({3: 50, 30: 48, 66: 20}, [(1, 16), (17, 32), (65, 80)]),
        ({32: 5, 1: 5}, [(1, 4), (29, 32)]),
        ({2: 7}, []),
        ({}, []),
    ],
)
def test_bins(texts: dict[int, int], bounds: list[tuple[int, int]]) -> None:
    found = length_bins(counts(texts), labelled=True)
    assert [(one.low, one.high) for one in found] == bounds
    assert len(found) <= MOST_BINS
    if bounds:
        assert sum(one.answers for one in found) == sum(texts.values())
        for length in texts:
            assert sum(one.low <= length <= one.high for one in found) == 1


def test_percentages_are_of_the_bin() -> None:
    first, second = length_bins(
        {1: Tally(samples=4, agreed=3, reference_right=4, build_right=1), **counts({9: 8})}, labelled=True
    )
    assert (first.reference, first.build, first.agreement) == (100.0, 25.0, 75.0)
    assert (second.answers, second.build) == (8, 50.0)
    unlabelled, _ = length_bins(counts({1: 4, 9: 8}), labelled=False)
    assert (unlabelled.reference, unlabelled.build, unlabelled.agreement) == (None, None, 100.0)
