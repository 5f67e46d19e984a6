"""Tags of a text's words: every token that has one is an answer, and the answers of one text come and go together.

A tagger that misreads a text misreads several of its words, so that words are no independent samples. Whole texts are
resampled (a cluster bootstrap; Davison and Hinkley 1997, section 3.8), which needs three counts of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError
from edgevit.parity.statistics import Decision, Margin, checked, mcnemar_p, paired_difference_interval
from edgevit.types import UNTAGGED, Interval, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.parity.metrics import BoolArray

RESAMPLES = 2000


class Cluster(Value, frozen=True, kw_only=True):
    """One text's answers."""

    answers: int
    lost: int
    gained: int


def judged_tokens(labels: Any, words: BoolArray | None, shape: tuple[int, ...]) -> tuple[BoolArray, bool]:
    """Which tokens of a batch (samples, length) are answers, and whether their truth is known.

    Raises InputError for tags of another shape, and where nothing says which tokens begin a word.
    """
    if isinstance(labels, np.ndarray):
        if labels.shape != shape:
            raise InputError(f"expected tags of shape {shape}, one per token, found {labels.shape}")
        return np.asarray(labels != UNTAGGED), True
    if words is None or words.shape != shape:
        found = "none" if words is None else str(words.shape)
        raise InputError(f"expected the places of the words of shape {shape}, found {found}")
    return words, False


def clusters_of(rows: NDArray[np.int64], right: BoolArray, build_right: BoolArray) -> tuple[Cluster, ...]:
    """Per text its answers, lost and gained: `rows` gives each answer's text, in order."""
    lost, gained = right & ~build_right, ~right & build_right
    return tuple(
        Cluster(
            answers=int((rows == row).sum()), lost=int(lost[rows == row].sum()), gained=int(gained[rows == row].sum())
        )
        for row in np.unique(rows)
    )


def clustered_non_inferiority(clusters: Sequence[Cluster], margin: Margin | None = None, *, seed: int = 0) -> Decision:
    """`statistics.non_inferiority` for answers that come in texts; the figures are points of accuracy per answer.

    The interval is the hull of the percentile bootstrap over texts and of Tango's interval over answers: the first
    knows that answers of one text are alike, the second has a width where nothing is discordant. `p` is McNemar's exact
    test over the texts that lost more than they gained, and the other way round. A loss beyond the margin that is no
    accident fails, as it does there.
    """
    answers = sum(one.answers for one in clusters)
    margin = checked(margin or Margin(), answers)
    limit, level = margin.points, 1.0 - 2.0 * margin.alpha
    lost, gained = (sum(getattr(one, name) for one in clusters) for name in ("lost", "gained"))
    difference = 100.0 * (gained - lost) / answers
    tango = paired_difference_interval(lost, gained, answers, level=level)
    low, high = _resampled(clusters, level, seed)
    low, high = min(low, 100.0 * tango.low), max(high, 100.0 * tango.high)
    p = mcnemar_p(sum(one.lost > one.gained for one in clusters), sum(one.gained > one.lost for one in clusters))
    if low > -limit:
        verdict, needed = "passed", None
    elif high < -limit or (p < margin.alpha and difference < -limit):
        verdict, needed = "failed", None
    else:
        verdict, needed = "inconclusive", _texts_needed(len(clusters), difference, (low, high), limit)
    return Decision(
        verdict=verdict,  # type: ignore[arg-type]
        difference=difference,
        interval=Interval(low=low, high=high, level=level),
        p=p,
        samples_needed=needed,
    )


def _resampled(clusters: Sequence[Cluster], level: float, seed: int) -> tuple[float, float]:
    """Percentiles of the difference, in points, over texts drawn with replacement."""
    counts = np.array([[one.answers, one.gained - one.lost] for one in clusters], dtype=np.int64)
    # Most texts are alike in these two counts: drawing kinds of texts is the same, and a hundred times faster.
    kinds, numbers = np.unique(counts, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(clusters), numbers / len(clusters), size=RESAMPLES)
    totals = drawn @ kinds.astype(np.float64)
    low, high = np.quantile(100.0 * totals[:, 1] / totals[:, 0], [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _texts_needed(texts: int, difference: float, interval: tuple[float, float], limit: float) -> int | None:
    """How many texts would decide at these rates: an interval narrows with the square root of their number."""
    distance = difference + limit
    width = difference - interval[0] if distance > 0 else interval[1] - difference
    if distance == 0 or width <= 0:
        return None
    needed = math.ceil(texts * (width / distance) ** 2) + 1
    return needed if needed <= 10_000_000 else None
