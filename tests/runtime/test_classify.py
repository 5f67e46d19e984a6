"""Scores to labels."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.runtime.classify import classify

LABELS = ("cat", "dog", "cow")


def test_softmax_best_first():
    result = classify(np.float32([0, 2, 1]), LABELS)
    assert (result.label, result.score) == result.top[0]
    assert [label for label, _ in result.top] == ["dog", "cow", "cat"]
    expected = np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum()
    assert [score for _, score in result.top] == pytest.approx(expected)
    assert sum(score for _, score in result.top) == pytest.approx(1)


def test_only_the_top_but_always_one():
    logits = np.float32([0, 2, 1])
    assert [label for label, _ in classify(logits, LABELS, 2).top] == ["dog", "cow"]
    assert len(classify(logits, LABELS, 0).top) == 1
    assert len(classify(logits, LABELS, 99).top) == 3


def test_large_scores_do_not_overflow_and_half_precision_is_taken():
    result = classify(np.float16([60000, -60000, 0]), LABELS)
    assert result.score == 1.0
    assert np.isfinite([score for _, score in result.top]).all()


def test_equal_scores_keep_the_order_of_the_classes():
    assert [label for label, _ in classify(np.zeros(3), LABELS).top] == list(LABELS)


def test_a_class_without_a_label_gets_its_number():
    assert classify(np.float32([0, 1, 2, 3]), LABELS).label == "3"
