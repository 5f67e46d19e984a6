"""BLEU and chrF of a whole set of translations, and how sure their difference is.

A corpus score is no average over texts, but it is a function of counts that add up over them: it is resampled by
adding the counts of texts drawn with replacement, the same ones for both sides (a paired bootstrap; Koehn, "Statistical
Significance Tests for Machine Translation Evaluation", 2004). Both scores are sacreBLEU's to the last digit, under its
signatures `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` and `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgevit.errors import InputError
from edgevit.types import CorpusScore, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.parity.metrics import Float64Array

Counts: TypeAlias = "NDArray[np.int64]"
"""One row per text; rows add up."""

BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2
RESAMPLES = 1000
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""mteval-v13a's: symbols apart, full stops and commas unless between digits, a dash after a digit."""


def words_13a(text: str) -> list[str]:
    """A text as BLEU's tokens (mteval-v13a)."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    line = f" {line} "
    for pattern, apart in _SPLITS:
        line = pattern.sub(apart, line)
    return line.split()


def bleu_counts(texts: Sequence[str], truths: Sequence[str]) -> Counts:
    """Per text: its words, its truth's words, then matching and all n-grams for n of 1 to 4 (Papineni et al., 2002)."""
    return np.array([_bleu_row(words_13a(text), words_13a(truth)) for text, truth in zip(texts, truths, strict=True)])


def bleu(totals: Float64Array) -> Float64Array:
    """BLEU, 0 to 100, of rows of summed counts; an order without a match counts as half of the one before (NIST)."""
    found, wanted = totals[:, 0], totals[:, 1]
    right, all_ = totals[:, 2 : 2 + BLEU_ORDER], totals[:, 2 + BLEU_ORDER :]
    halved = 2.0 ** np.cumsum(right == 0, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(right > 0, right / all_, 1.0 / (halved * all_))
        brevity = np.where(found < wanted, np.exp(1.0 - wanted / found), 1.0)
        score = 100.0 * brevity * np.exp(np.log(precision).mean(axis=1))
    return np.asarray(np.where((right.sum(axis=1) > 0) & (all_ > 0).all(axis=1), score, 0.0))


def chrf_counts(texts: Sequence[str], truths: Sequence[str]) -> Counts:
    """Per text, for n of 1 to 6: its character n-grams, its truth's, and how many match (Popović, 2015)."""
    return np.array([_chrf_row(text, truth) for text, truth in zip(texts, truths, strict=True)])


def chrf(totals: Float64Array) -> Float64Array:
    """chrF2, 0 to 100, of rows of summed counts: the F-score of precision and recall averaged over their orders."""
    found, wanted, match = (totals[:, start::3] for start in range(3))
    used = (found > 0) & (wanted > 0)
    orders = np.maximum(used.sum(axis=1), 1)
    precision = np.where(used, match / np.maximum(found, 1), 0.0).sum(axis=1) / orders
    recall = np.where(used, match / np.maximum(wanted, 1), 0.0).sum(axis=1) / orders
    weight = CHRF_BETA**2
    below = weight * precision + recall
    return np.asarray(np.where(below > 0, 100.0 * (1 + weight) * precision * recall / np.where(below > 0, below, 1), 0))


METRICS: dict[str, tuple[Callable[[Sequence[str], Sequence[str]], Counts], Callable[[Float64Array], Float64Array]]] = {
    "BLEU": (bleu_counts, bleu),
    "chrF": (chrf_counts, chrf),
}


def corpus_scores(
    reference: Sequence[str], build: Sequence[str], truths: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> tuple[CorpusScore, ...]:
    """BLEU and chrF of both sides against the truths, with the interval of their difference. InputError for no text."""
    if not truths:
        raise InputError("expected at least one translation to score, found none")
    return tuple(_score(metric, (reference, build), truths, level, seed) for metric in METRICS)


def _score(
    metric: str, sides: tuple[Sequence[str], Sequence[str]], truths: Sequence[str], level: float, seed: int
) -> CorpusScore:
    count, score = METRICS[metric]
    one, other = (count(side, truths).astype(np.float64) for side in sides)
    drawn = np.random.default_rng(seed).multinomial(
        len(truths), np.full(len(truths), 1.0 / len(truths)), size=RESAMPLES
    )
    spread = score(drawn @ other) - score(drawn @ one)
    low, high = np.quantile(spread, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    whole = [float(score(counts.sum(axis=0, keepdims=True))[0]) for counts in (one, other)]
    return CorpusScore(
        metric=metric,
        reference=whole[0],
        build=whole[1],
        difference=whole[1] - whole[0],
        interval=Interval(low=float(low), high=float(high), level=level),
    )


def _bleu_row(words: list[str], truth: list[str]) -> list[int]:
    right, all_ = [], []
    for order in range(1, BLEU_ORDER + 1):
        found, wanted = (_ngrams(side, order) for side in (words, truth))
        right.append((found & wanted).total())
        all_.append(found.total())
    return [len(words), len(truth), *right, *all_]


def _chrf_row(text: str, truth: str) -> list[int]:
    characters, true = "".join(text.split()), "".join(truth.split())
    row: list[int] = []
    for order in range(1, CHRF_ORDER + 1):
        found, wanted = (_ngrams(side, order) for side in (characters, true))
        row += [found.total() if wanted else 0, wanted.total(), (found & wanted).total()]
    return row


def _ngrams(items: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(items[start : start + order]) for start in range(len(items) - order + 1))
