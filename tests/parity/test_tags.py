"""Tags: words are the answers, texts what is resampled, and everything that is no word stays out."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.parity.compare import ComparisonOptions, Outputs, compare
from edgevit.parity.statistics import Margin, non_inferiority
from edgevit.parity.tags import Cluster, clustered_non_inferiority
from edgevit.types import UNTAGGED, Rung

OPTIONS = ComparisonOptions(task="token-classification", classes=("O", "DAY", "MONTH"))


def scores(tags: list[list[int]], classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[np.asarray(tags)] * 8


def rung(reference: np.ndarray, build: np.ndarray, labels: object, words: np.ndarray | None = None) -> Rung:
    names = [f"text {row}" for row in range(len(reference))]
    lengths = [reference.shape[1]] * len(names)
    expected = Outputs(names=names, values=reference, labels=labels, words=words, lengths=lengths)  # type: ignore[arg-type]
    return compare([expected], [Outputs(names=names, values=build)], OPTIONS, name="build")


TRUTH = np.array([[1, UNTAGGED, 2, UNTAGGED], [0, 1, UNTAGGED, UNTAGGED]])


def test_words_with_a_tag_are_the_answers() -> None:
    reference = scores([[1, 0, 2, 0], [0, 1, 0, 0]])
    build = scores([[1, 2, 0, 2], [0, 1, 2, 2]])  # one word wrong; what stands on other tokens is another tag
    found = rung(reference, build, TRUTH)
    assert (found.samples, found.labelled) == (2, True)
    assert found.task is not None
    assert (found.task.metric, found.task.reference, found.task.build) == ("token accuracy", 100.0, 75.0)
    assert found.agreement == 75.0
    assert found.worst[0].name == "text 0, word 2"
    assert (found.worst[0].reference, found.worst[0].build, found.worst[0].truth) == ("MONTH", "O", "MONTH")
    assert "on 4 words of 2 texts (lost 1, gained 0)" in found.reason


def test_only_words_count_for_closeness() -> None:
    reference = scores([[1, 0, 2, 0]] * 2)
    build = reference.copy()
    build[:, 1] += 100
    closeness = rung(reference, build, np.where(TRUTH == UNTAGGED, UNTAGGED, TRUTH)).closeness
    assert closeness is not None
    assert closeness.max_abs_error == 100  # position 1 is a word of the second text only
    masked = np.array([[1, UNTAGGED, 2, UNTAGGED]] * 2)
    closeness = rung(reference, build, masked).closeness
    assert closeness is not None
    assert closeness.max_abs_error == 0


def test_without_tags_the_words_are_compared_with_the_reference() -> None:
    reference = scores([[1, 0, 2, 0], [0, 1, 0, 0]])
    build = scores([[1, 0, 0, 0], [0, 1, 2, 0]])
    words = TRUTH != UNTAGGED
    found = rung(reference, build, (None, None), words)
    assert not found.labelled
    assert found.task is None
    assert found.agreement == 75.0
    assert (
        "no labels, so the reference's answers stand in for the truth: 1 of 4 words of 2 texts differ" in found.reason
    )
    with pytest.raises(InputError, match="expected the places of the words of shape"):
        rung(reference, build, (None, None))


def test_scores_of_another_shape_are_refused() -> None:
    reference = scores([[1, 0, 2, 0], [0, 1, 0, 0]])
    with pytest.raises(InputError, match="expected tag scores of shape"):
        rung(reference, reference[:, :3], TRUTH)
    with pytest.raises(InputError, match="expected tags of shape"):
        rung(reference, reference, TRUTH[:, :3])


# ------------------------------------------------------------------------------------------------- clusters


def texts(number: int, answers: int, lost: int = 0, gained: int = 0) -> list[Cluster]:
    return [Cluster(answers=answers, lost=lost, gained=gained)] * number


def test_words_that_are_lost_together_widen_the_interval() -> None:
    spread = texts(40, 5, lost=1) + texts(960, 5)
    together = texts(8, 5, lost=5) + texts(992, 5)
    apart, alike = clustered_non_inferiority(spread), clustered_non_inferiority(together)
    assert apart.difference == alike.difference == -0.8
    assert alike.interval.high - alike.interval.low > 1.5 * (apart.interval.high - apart.interval.low)
    assert clustered_non_inferiority(together) == alike


def test_it_is_never_surer_than_independent_words_would_be() -> None:
    for lost, gained in ((0, 0), (3, 1), (20, 0)):
        clusters = texts(lost, 1, lost=1) + texts(gained, 1, gained=1) + texts(500 - lost - gained, 1)
        found, iid = clustered_non_inferiority(clusters), non_inferiority(lost, gained, 500)
        assert found.interval.low <= iid.interval.low
        assert found.interval.high >= iid.interval.high


@pytest.mark.parametrize(
    ("clusters", "verdict"),
    [
        (texts(2000, 5), "passed"),
        (texts(50, 5, lost=5) + texts(450, 5), "failed"),
        (texts(2, 5, lost=1) + texts(48, 5), "inconclusive"),
    ],
)
def test_verdicts(clusters: list[Cluster], verdict: str) -> None:
    found = clustered_non_inferiority(clusters, Margin(points=0.5))
    assert found.verdict == verdict
    assert (found.samples_needed is not None) == (verdict == "inconclusive")
    if found.samples_needed:
        assert found.samples_needed > len(clusters)


def test_a_tagger_that_is_as_good_passes_far_more_often_than_one_beyond_the_margin() -> None:
    """Coverage on simulated sets: texts of 5 words that go wrong together, 1,500 of them, a margin of 1 point."""
    random = np.random.default_rng(0)
    passed = {0.0: 0, 0.01: 0}
    for loss in passed:
        for _ in range(60):
            lost = int(random.binomial(1500, 0.004 + loss))
            gained = int(random.binomial(1500, 0.004))
            clusters = texts(lost, 5, lost=5) + texts(gained, 5, gained=5) + texts(1500 - lost - gained, 5)
            passed[loss] += clustered_non_inferiority(clusters, Margin(points=1.0)).verdict == "passed"
    assert passed[0.0] > 50
    assert passed[0.01] <= 8
