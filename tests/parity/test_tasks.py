from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import SetError
from edgevit.parity.tasks import Tally, Top1, tally, task_metric

TOP1 = Top1(classes=("cat", "dog"))
SCORES = np.array([[0.1, 2.0, 0.3], [5.0, 5.0, 1.0]])


def test_top1_answers_with_the_first_of_the_largest_scores() -> None:
    assert TOP1.answers(SCORES).tolist() == [1, 0]


def test_top1_names_classes_and_shows_the_index_of_unnamed_ones() -> None:
    assert [TOP1.describe(answer) for answer in (0, 1, 2)] == ["cat", "dog", "2"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"labels in \[0, 3\), the model's classes, found 3"),
        ([-1, 0], "found -1"),
        ([0], r"expected 2 class indices"),
        ([0.0, 1.0], "found float64"),
    ],
)
def test_top1_refuses_labels_of_another_model(labels: list[int], message: str) -> None:
    with pytest.raises(SetError, match=message):
        TOP1.truths(labels, SCORES)


def test_features_have_no_answers() -> None:
    assert task_metric("image-features") is None
    assert task_metric("image-classification", ["a"]) == Top1(classes=("a",))


def test_tally_counts_every_kind_of_sample() -> None:
    truth = np.array([0, 0, 0, 0, 0, 0])
    reference = np.array([0, 0, 1, 1, 1, 0])
    build = np.array([0, 1, 0, 1, 2, 0])
    finite = np.array([True, True, True, True, True, False])
    assert tally(reference, build, truth, finite) == Tally(
        samples=6, agreed=2, reference_right=3, build_right=2, lost=2, gained=1, changed=1
    )


def test_tally_without_truth_counts_agreement_only() -> None:
    answers = np.array([0, 1, 2])
    assert tally(answers, np.array([0, 1, 1]), None, np.array([True, False, True])) == Tally(samples=3, agreed=1)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.booleans()), min_size=2, max_size=60), st.integers(1, 59))
def test_tallies_add_up_and_account_for_every_sample(rows: list[tuple[int, int, int, bool]], cut: int) -> None:
    reference, build, truth, finite = (np.array(column) for column in zip(*rows, strict=True))
    total = tally(reference, build, truth, finite)
    first, second = slice(None, cut), slice(cut, None)
    assert total == sum(
        (tally(reference[part], build[part], truth[part], finite[part]) for part in (first, second)), Tally()
    )
    assert total.build_right - total.reference_right == total.gained - total.lost
    assert total.samples - total.agreed == total.lost + total.gained + total.changed
