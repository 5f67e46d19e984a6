from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgevit.errors import InputError, SetError
from edgevit.parity.compare import WORST_SCORE, ComparisonOptions, Outputs, compare
from edgevit.parity.metrics import SQNR_LIMIT_DB
from edgevit.parity.statistics import Margin
from edgevit.parity.verdict import Budget
from edgevit.types import Rung

CLASSES = ("zero", "one", "two", "three")


def one_hot(answers: list[int] | NDArray, classes: int = 4, scale: float = 5.0) -> NDArray:
    return (scale * np.eye(classes, dtype=np.float32))[np.asarray(answers)]


def batches(values: NDArray, labels: NDArray | None = None, size: int = 64) -> Iterator[Outputs]:
    for start in range(0, len(values), size):
        rows = slice(start, start + size)
        names = [f"image-{index}" for index in range(start, min(start + size, len(values)))]
        yield Outputs(names=names, values=values[rows], labels=None if labels is None else labels[rows])


def rung_of(
    reference: NDArray, build: NDArray, labels: NDArray | None = None, size: int = 64, **options: object
) -> Rung:
    chosen = msgspec.convert({"classes": CLASSES, **options}, ComparisonOptions)
    return compare(batches(reference, labels, size), batches(build, size=size), chosen, name="int8", precision="int8")


def flipped(samples: int, lost: int = 0, gained: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """(reference, build, labels) of which the first are lost, the next gained and the rest right on both sides."""
    labels = np.arange(samples) % 3
    reference, build = labels.copy(), labels.copy()
    build[:lost] = 3
    reference[lost : lost + gained] = 3
    return one_hot(reference), one_hot(build), labels


# ----------------------------------------------------------------------------------------------- labelled


@pytest.mark.parametrize(
    ("samples", "lost", "gained", "verdict", "reason"),
    [
        (100, 0, 0, "inconclusive", "at these rates 539 would decide"),
        (540, 0, 0, "passed", "even the lower end is within the budget of 0.5 points"),
        (900, 0, 0, "passed", "even the lower end is within"),
        (5000, 0, 0, "passed", "even the lower end is within"),
        (900, 2, 2, "passed", "(lost 2, gained 2)"),
        (900, 2, 0, "inconclusive", "at these rates 1745 would decide"),
        (200, 1, 0, "inconclusive", "no practical number of samples would decide"),
        (900, 12, 2, "failed", "no accident (McNemar p 0.013)"),
        (900, 40, 2, "failed", "even the upper end is beyond the budget of 0.5 points"),
    ],
)
def test_verdict_and_reason_of_labelled_samples(
    samples: int, lost: int, gained: int, verdict: str, reason: str
) -> None:
    rung = rung_of(*flipped(samples, lost, gained))
    assert rung.verdict == verdict
    assert reason in rung.reason
    assert "\n" not in rung.reason
    assert (rung.samples_needed is not None) == ("at these rates" in rung.reason)


def test_task_comparison_agreement_and_flips() -> None:
    reference, build, labels = flipped(1000, lost=30, gained=10)
    labels[990:] = 3  # both wrong, with the same answer: no flip
    build[980:990], reference[980:990], labels[980:990] = one_hot([0] * 10), one_hot([1] * 10), 2  # both wrong, changed
    rung = rung_of(reference, build, labels)
    assert rung.labelled
    assert rung.task is not None and rung.flips is not None
    assert rung.task.metric == "top-1 accuracy"
    assert (rung.task.reference, rung.task.build) == (pytest.approx(97.0), pytest.approx(95.0))
    assert rung.task.difference == pytest.approx(-2.0)
    assert rung.task.interval.low < -2.0 < rung.task.interval.high < 0.0
    assert rung.task.interval.level == pytest.approx(0.9)
    assert (rung.flips.lost, rung.flips.gained, rung.flips.changed) == (30, 10, 10)
    assert rung.flips.mcnemar_p == pytest.approx(0.00222, abs=1e-5)
    assert rung.agreement == pytest.approx(95.0)


def test_the_margin_is_the_caller_s() -> None:
    sides = flipped(300, lost=1)
    assert rung_of(*sides, budget=Budget(margin=Margin(points=0.5))).verdict == "inconclusive"
    assert rung_of(*sides, budget=Budget(margin=Margin(points=3.0))).verdict == "passed"


def test_perfect_outputs() -> None:
    reference, _, labels = flipped(600)
    rung = rung_of(reference, reference.copy(), labels)
    assert rung.agreement == 100.0
    assert rung.closeness is not None
    assert rung.closeness.sqnr_db == SQNR_LIMIT_DB
    assert rung.closeness.kl_max == 0.0
    assert (rung.name, rung.precision, rung.samples) == ("int8", "int8", 600)


# --------------------------------------------------------------------------------------------- unlabelled


@pytest.mark.parametrize(
    ("samples", "differ", "verdict"),
    [(600, 0, "passed"), (100, 0, "inconclusive"), (900, 2, "inconclusive"), (900, 30, "failed")],
)
def test_without_labels_the_reference_is_the_truth_and_the_reason_says_so(
    samples: int, differ: int, verdict: str
) -> None:
    reference, build, _ = flipped(samples, lost=differ)
    rung = rung_of(reference, build)
    assert rung.verdict == verdict
    assert "no labels, so the reference's answers stand in for the truth" in rung.reason
    assert f"{differ} of {samples} samples differ" in rung.reason
    assert (rung.labelled, rung.task, rung.flips) == (False, None, None)
    assert rung.agreement == pytest.approx(100 * (samples - differ) / samples)


def test_labels_come_for_all_batches_or_for_none() -> None:
    reference, build, labels = flipped(128)
    some = [*batches(reference[:64], labels[:64]), *batches(reference[64:])]
    other = [*batches(build[:64]), *batches(build[64:])]
    with pytest.raises(SetError, match="labels for all samples or for none"):
        compare(some, other, name="int8")


# ------------------------------------------------------------------------------------ untrained, features


@pytest.mark.parametrize(
    ("precision", "noise", "verdict", "floor"),
    [
        ("float32", 1e-6, "passed", "60.0"),
        ("float32", 1e-2, "failed", "60.0"),
        ("bfloat16", 1e-2, "passed", "25.0"),
        ("int8", 0.2, "passed", "10.0"),
        ("int8", 1.5, "failed", "10.0"),
        ("", 0.2, "passed", "10.0"),
    ],
)
def test_untrained_models_are_judged_by_closeness_and_show_no_accuracy(
    precision: str, noise: float, verdict: str, floor: str
) -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(20, 4)).astype(np.float32)
    build = reference + rng.normal(0, noise, reference.shape).astype(np.float32)
    labels = np.zeros(20, dtype=np.int64)
    options = ComparisonOptions(trained=False)
    rung = compare(batches(reference, labels), batches(build), options, name="x", precision=precision)
    assert rung.verdict == verdict
    assert "untrained model, judged by closeness alone" in rung.reason
    assert f"floor of {floor} dB" in rung.reason
    assert (rung.labelled, rung.task, rung.flips, rung.samples_needed) == (False, None, None, None)
    assert rung.agreement is not None
    assert "accuracy" not in msgspec.json.encode(rung).decode()
    assert all(sample.truth == "" for sample in rung.worst)


def test_the_floor_of_untrained_models_is_the_caller_s() -> None:
    reference = np.random.default_rng(0).normal(size=(20, 4))
    rung = rung_of(reference, 1.1 * reference, trained=False, budget=Budget(sqnr_db=30.0))
    assert rung.verdict == "failed"
    assert "SQNR 20.0 dB is below the floor of 30.0 dB" in rung.reason


@pytest.mark.parametrize(
    ("row", "verdict"), [([1.0, 0.0, 0.0], "passed"), ([1.0, 0.1, 0.0], "passed"), ([1.0, 1.0, 0.0], "failed")]
)
def test_features_are_judged_by_cosine(row: list[float], verdict: str) -> None:
    reference = np.tile([1.0, 0.0, 0.0], (100, 1))
    build = reference.copy()
    build[17] = row
    rung = rung_of(reference, build, task="image-features", labels=np.zeros(100, dtype=np.int64))
    assert rung.verdict == verdict
    assert "judged by cosine" in rung.reason
    assert rung.closeness is not None
    assert (rung.agreement, rung.task, rung.closeness.kl_mean) == (None, None, None)
    assert rung.worst[0].score == pytest.approx(1 - rung.closeness.cosine_min)
    if row[1]:
        assert rung.worst[0].name == "image-17"


def test_features_must_be_close_on_average_too() -> None:
    reference = np.tile([1.0, 0.0], (10, 1))
    rung = rung_of(reference, np.tile([1.0, 0.3], (10, 1)), task="image-features")
    assert rung.closeness is not None
    assert rung.closeness.cosine_min > 0.95
    assert rung.verdict == "failed"


# --------------------------------------------------------------------------------------------- not finite


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, {"trained": False}, {"task": "image-features"}])
def test_outputs_that_are_not_finite_fail_with_the_sample_s_name_and_leave_valid_json(
    bad: float, options: dict[str, object]
) -> None:
    reference, build, labels = flipped(900)
    build[[70, 500]] = bad
    rung = rung_of(reference, build, labels, **options)
    assert rung.verdict == "failed"
    assert "2 of 900 samples have NaN or infinite outputs, the first is image-70" in rung.reason
    assert msgspec.json.decode(msgspec.json.encode(rung), type=Rung) == rung
    assert [sample.name for sample in rung.worst[:2]] == ["image-70", "image-500"]
    assert (rung.worst[0].build, rung.worst[0].score) == ("not finite", WORST_SCORE)
    if rung.flips is not None:
        assert rung.flips.lost == 2


def test_nothing_but_nan_has_a_verdict_and_no_closeness() -> None:
    reference, build, labels = flipped(10)
    rung = rung_of(reference, np.full_like(build, np.nan), labels)
    assert (rung.verdict, rung.closeness, rung.agreement) == ("failed", None, 0.0)


def test_a_reference_that_is_not_finite_is_an_error_that_names_the_sample() -> None:
    reference, build, labels = flipped(100)
    reference[66, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity for image-66; check the checkpoint"):
        rung_of(reference, build, labels)


# ------------------------------------------------------------------------------------------ worst samples


def test_worst_samples_are_flips_first_then_by_divergence() -> None:
    reference = one_hot([0] * 8)
    build = reference.copy()
    build[1] = one_hot([2])  # flipped, far
    build[2] = [0.0, 0.1, 0.0, 0.0]  # flipped, nearer
    build[5] = [1.0, 0.0, 0.0, 0.0]  # same answer, far
    build[6] = [4.0, 0.0, 0.0, 0.0]  # same answer, near
    rung = rung_of(reference, build, np.array([0, 0, 1, 0, 0, 0, 0, 0]), size=3, worst=5)
    assert [sample.name for sample in rung.worst] == ["image-1", "image-2", "image-5", "image-6", "image-0"]
    assert (rung.worst[0].reference, rung.worst[0].build, rung.worst[0].truth) == ("zero", "two", "zero")
    assert (rung.worst[1].build, rung.worst[1].truth) == ("one", "one")
    assert rung.worst[2].score > rung.worst[3].score > 0.0
    assert rung.worst[4].score == 0.0


def test_worst_keeps_as_many_as_asked_for() -> None:
    reference, build, labels = flipped(100, lost=5)
    assert len(rung_of(reference, build, labels, worst=3).worst) == 3
    assert rung_of(reference, build, labels, worst=0).worst == ()
    assert len(rung_of(reference[:2], build[:2], labels[:2], worst=9).worst) == 2


# ------------------------------------------------------------------------------------------ streams, shapes


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_the_size_of_the_batches_changes_nothing(seed: int, size: int, labelled: bool) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(60, 4))
    build = reference + rng.normal(0, 0.5, reference.shape)
    build[rng.integers(60)] = rng.choice([0.0, np.nan])
    labels = rng.integers(0, 4, 60) if labelled else None
    streamed, at_once = (rung_of(reference, build, labels, size=part) for part in (size, 60))
    assert streamed.closeness is not None and at_once.closeness is not None
    expected = msgspec.to_builtins(at_once.closeness)
    assert msgspec.to_builtins(streamed.closeness) == pytest.approx(expected, rel=1e-9)
    assert [sample.name for sample in streamed.worst] == [sample.name for sample in at_once.worst]
    one, other = (msgspec.structs.replace(rung, closeness=None, worst=()) for rung in (streamed, at_once))
    assert one == other


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    def stream(count: int, noise: float) -> Iterator[Outputs]:
        for index in range(count):
            values = np.random.default_rng(index).normal(size=(16, 100)) + noise
            yield Outputs(names=[f"{index}-{row}" for row in range(16)], values=values)

    def peak(count: int) -> int:
        tracemalloc.start()
        compare(stream(count, 0.0), stream(count, 0.1), name="int8")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)
    # The outputs of 180 more batches are 2.3 MB on each side; interpreter noise is some 20 kB.
    assert peak(200) < peak(20) + 100_000


def test_the_sides_must_give_the_same_samples() -> None:
    reference, build, _ = flipped(128)
    with pytest.raises(
        InputError, match="same samples in the same order from reference and 'int8', found others after 64"
    ):
        compare(batches(reference), batches(build[:64]), name="int8")
    shuffled = [Outputs(names=["b", "a"], values=build[:2])]
    with pytest.raises(InputError, match="after 0 samples"):
        compare([Outputs(names=["a", "b"], values=reference[:2])], shuffled, name="int8")


def test_a_build_with_other_classes_is_an_error() -> None:
    with pytest.raises(InputError, match=r"the reference's shape \(2, 4\), found \(2, 3\)"):
        rung_of(one_hot([0, 1]), one_hot([0, 1], classes=3))


def test_the_reference_needs_one_output_per_name() -> None:
    with pytest.raises(InputError, match=r"shape \(1, \.\.\.\), found \(2, 4\)"):
        compare(
            [Outputs(names=["a"], values=one_hot([0, 1]))], [Outputs(names=["a"], values=one_hot([0, 1]))], name="int8"
        )


def test_an_empty_set_is_an_error() -> None:
    with pytest.raises(SetError, match="at least one evaluation sample to compare 'int8'"):
        compare([], [], name="int8")
