"""BLEU and chrF are sacreBLEU's, and the interval of a difference is that of the texts it rests on."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.parity.corpus import bleu, bleu_counts, chrf, chrf_counts, corpus_scores, words_13a

WORDS = ["on", "Tuesday", ",", "3,5", "March", "3rd", "1.5", "-", "10-", "euros", "&amp;", "(half)", "a/b", "ü", "日本"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_scores_are_sacrebleus(pairs: list[tuple[str, str]]) -> None:
    found, truths = [one for one, _ in pairs], [other for _, other in pairs]
    ours = bleu(bleu_counts(found, truths).sum(0, keepdims=True).astype(float))[0]
    assert ours == pytest.approx(sacrebleu.corpus_bleu(found, [truths]).score, abs=1e-9)
    ours = chrf(chrf_counts(found, truths).sum(0, keepdims=True).astype(float))[0]
    assert ours == pytest.approx(sacrebleu.corpus_chrf(found, [truths]).score, abs=1e-9)


@given(st.text(alphabet=st.sampled_from("ab 1.,-&;/()'\"<>quotampl\u00e4"), max_size=30))
def test_words_are_mtevals(text: str) -> None:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    assert words_13a(text) == Tokenizer13a()(text.rstrip()).split()


TRUTHS = [f"on day number {n} of the month of March" for n in range(60)]


def test_the_same_translations_have_no_difference() -> None:
    for score in corpus_scores(TRUTHS, TRUTHS, TRUTHS):
        assert (score.reference, score.build, score.difference) == (100.0, 100.0, 0.0)
        assert (score.interval.low, score.interval.high) == (0.0, 0.0)


def test_a_difference_has_an_interval_that_the_same_seed_gives_again() -> None:
    worse = [text if n % 3 else text.replace("month", "year") for n, text in enumerate(TRUTHS)]
    first, second = corpus_scores(TRUTHS, worse, TRUTHS), corpus_scores(TRUTHS, worse, TRUTHS)
    assert first == second
    for score in first:
        assert score.interval.low < score.difference < score.interval.high < 0
        assert score.build == pytest.approx(score.reference + score.difference)


def test_drawing_is_paired() -> None:
    """Both sides are wrong in the same texts: however the texts are drawn, the difference is zero."""
    wrong = [text if n % 2 else "no" for n, text in enumerate(TRUTHS)]
    for score in corpus_scores(wrong, list(wrong), TRUTHS):
        assert score.reference < 90
        assert (score.interval.low, score.interval.high) == (0.0, 0.0)


def test_more_texts_make_the_interval_narrower() -> None:
    worse = [text if n % 3 else text.replace("month", "year") for n, text in enumerate(TRUTHS)]
    few = corpus_scores(TRUTHS, worse, TRUTHS)[0].interval
    many = corpus_scores(TRUTHS * 9, worse * 9, TRUTHS * 9)[0].interval
    assert np.isclose((few.high - few.low) / (many.high - many.low), 3, rtol=0.25)


def test_nothing_has_no_score() -> None:
    with pytest.raises(InputError, match="at least one translation"):
        corpus_scores([], [], [])
