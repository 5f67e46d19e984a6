"""One rung: a build's outputs against the float reference's, batch by batch, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import InputError, SetError
from edgevit.parity import verdict
from edgevit.parity.lengths import added, length_bins, tally_by_length
from edgevit.parity.metrics import ClosenessSums, SampleCloseness, finite_rows, sample_closeness
from edgevit.parity.statistics import Decision, agreement_with_reference, non_inferiority
from edgevit.parity.tags import Cluster, clustered_non_inferiority, clusters_of, judged_tokens
from edgevit.parity.tasks import Labels, Tally, TaskMetric, known_labels, tally, task_metric
from edgevit.parity.verdict import Budget, Judgement
from edgevit.types import Closeness, Flips, Rung, Task, TaskComparison, Value, WorstSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.parity.metrics import BoolArray

WORST_SCORE = 1e9
"""Stands for an infinite divergence, which JSON cannot hold: the score of a sample whose output is not finite."""


class ComparisonOptions(Value, frozen=True, kw_only=True):
    """What is compared and against which budget."""

    task: Task = "image-classification"
    trained: bool = True
    """False: labels are ignored and no accuracy is computed, printed or stored."""
    budget: Budget = Budget()
    classes: tuple[str, ...] = ()
    """Names by class index, for the worst samples."""
    worst: int = 8
    """How many of the worst samples are kept."""
    output: str = ""
    """The model output that is compared; empty for the reference's first."""


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of one side: `values` of shape (batch, ...), class scores (batch, classes) for classification."""

    names: Sequence[str]
    values: NDArray[Any]
    labels: Labels | None = None
    """Class index per sample, of tags one per token; only the reference's side is read. All samples have it or none."""
    words: BoolArray | None = None
    """Of texts, (batch, length): whether a token is the first of a word; read for tags alone."""
    lengths: Sequence[int] | None = None
    """Of texts: tokens read of each."""


class Ranked(Value, frozen=True, kw_only=True):
    """A candidate for the worst samples: not finite before flipped before the rest, then by score."""

    severity: int
    sample: WorstSample


class Comparison(Value, frozen=True, kw_only=True):
    """Everything known of one rung after some batches; `extended` gives the next value."""

    labelled: bool | None = None
    """None before the first batch."""
    counts: Tally = Tally()
    closeness: ClosenessSums = ClosenessSums()
    not_finite: int = 0
    first_not_finite: str = ""
    worst: tuple[Ranked, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    """Of tags: the answers of each text, three counts of it."""
    by_length: dict[int, Tally] = {}
    """Of texts: the counts by length."""


def compare(
    reference: Iterable[Outputs],
    build: Iterable[Outputs],
    options: ComparisonOptions | None = None,
    *,
    name: str,
    target: str = "",
    precision: str = "",
) -> Rung:
    """The rung of a build: both sides give the same samples in the same batches, and are read once, in step.

    Raises InputError where the sides differ in names or shapes or the reference is not finite, SetError for labels
    that do not fit the model, are missing from some batches only, or no sample at all.
    """
    options = options or ComparisonOptions()
    state = Comparison()
    for expected, found in zip_longest(reference, build):
        if expected is None or found is None or list(expected.names) != list(found.names):
            where = f"after {state.counts.samples} samples"
            raise InputError(
                f"expected the same samples in the same order from reference and '{name}', found others {where}"
            )
        check_reference(expected)
        state = extended(state, expected, found.values, options)
    return rung(state, options, name=name, target=target, precision=precision)


def check_reference(reference: Outputs) -> None:
    """InputError unless the reference has one finite output per name; it is the truth, so nothing can excuse it."""
    values = reference.values
    if values.ndim < 2 or values.shape[0] != len(reference.names):
        raise InputError(f"expected reference outputs of shape ({len(reference.names)}, ...), found {values.shape}")
    finite = finite_rows(values.reshape(values.shape[0], -1))
    if not finite.all():
        name = reference.names[int(np.argmin(finite))]
        raise InputError(
            f"expected finite outputs of the float reference, found NaN or infinity for {name}; check the checkpoint"
        )


def extended(state: Comparison, reference: Outputs, build: NDArray[Any], options: ComparisonOptions) -> Comparison:
    """`state` and one more batch; raises InputError where the build's output has another shape than the reference's."""
    return followed(state, compared(reference, build, options), options)


def compared(reference: Outputs, build: NDArray[Any], options: ComparisonOptions) -> Comparison:
    """What one batch tells; see `extended`."""
    metric = task_metric(options.task, options.classes)
    rows: NDArray[np.int64] | None = None
    if options.task == "token-classification":
        reference, build, rows = by_word(reference, build)
        if not rows.size:
            return Comparison()
    closeness = sample_closeness(reference.values, build, scores=metric is not None)
    labels = known_labels(reference.labels) if options.trained and metric is not None else None
    not_finite = [name for name, finite in zip(reference.names, closeness.finite, strict=True) if not finite]
    answers = _answers(metric, reference, build, labels, closeness)
    return Comparison(
        labelled=labels is not None,
        counts=_counted(answers, closeness),
        closeness=ClosenessSums().plus(closeness),
        not_finite=len(not_finite),
        first_not_finite=next(iter(not_finite), ""),
        worst=_ranked(answers, reference.names, closeness, options.worst),
        clusters=_clusters(rows, answers, closeness),
        by_length=_by_length(reference.lengths, answers, closeness),
    )


def followed(state: Comparison, batch: Comparison, options: ComparisonOptions) -> Comparison:
    """`state` and what the next batch told.

    Sums of floats depend on their order: batch by batch and in the set's order, they are the same to the last bit
    wherever each batch was compared. Raises SetError where some batches have labels and others none.
    """
    if batch.labelled is None:
        return state
    if state.labelled is not None and state.labelled != batch.labelled:
        raise SetError("expected labels for all samples or for none, found batches with and without labels")
    return Comparison(
        labelled=batch.labelled,
        counts=state.counts + batch.counts,
        closeness=state.closeness + batch.closeness,
        not_finite=state.not_finite + batch.not_finite,
        first_not_finite=state.first_not_finite or batch.first_not_finite,
        worst=kept_worst(state.worst + batch.worst, options.worst),
        clusters=state.clusters + batch.clusters,
        by_length=added(state.by_length, batch.by_length),
    )


def by_word(reference: Outputs, build: NDArray[Any]) -> tuple[Outputs, NDArray[Any], NDArray[np.int64]]:
    """The tags of a batch (samples, length, tags) as one row per word that is judged, and each row's text."""
    values = reference.values
    if values.ndim != 3 or values.shape != build.shape:
        raise InputError(
            f"expected tag scores of shape (batch, length, tags) from both, found {values.shape} and {build.shape}"
        )
    judged, known = judged_tokens(reference.labels, reference.words, values.shape[:2])
    rows, places = np.nonzero(judged)
    texts: list[int] = rows.tolist()
    number = np.cumsum(judged, axis=1)[rows, places]
    labels = reference.labels
    return (
        Outputs(
            names=[f"{reference.names[row]}, word {count}" for row, count in zip(texts, number, strict=True)],
            values=values[judged],
            labels=np.asarray(labels)[judged] if known else None,
            lengths=None if reference.lengths is None else [reference.lengths[row] for row in texts],
        ),
        build[judged],
        rows,
    )


def _clusters(
    rows: NDArray[np.int64] | None, answers: _Answers | None, closeness: SampleCloseness
) -> tuple[Cluster, ...]:
    """Without a truth the reference's answers stand in for it."""
    if rows is None or answers is None:
        return ()
    truths = answers.reference if answers.truths is None else answers.truths
    return clusters_of(rows, answers.reference == truths, (answers.build == truths) & closeness.finite)


def _by_length(lengths: Sequence[int] | None, answers: _Answers | None, closeness: SampleCloseness) -> dict[int, Tally]:
    if lengths is None or answers is None:
        return {}
    return tally_by_length(lengths, (answers.reference, answers.build), answers.truths, closeness.finite)


class _Answers(msgspec.Struct, frozen=True):
    metric: TaskMetric
    reference: NDArray[Any]
    build: NDArray[Any]
    truths: NDArray[Any] | None


def _answers(
    metric: TaskMetric | None,
    reference: Outputs,
    build: NDArray[Any],
    labels: Labels | None,
    closeness: SampleCloseness,
) -> _Answers | None:
    if metric is None:
        return None
    filled = np.where(closeness.finite[:, None], build, 0)
    truths = None if labels is None else metric.truths(labels, reference.values)
    return _Answers(metric, metric.answers(reference.values), metric.answers(filled), truths)


def _counted(answers: _Answers | None, closeness: SampleCloseness) -> Tally:
    if answers is None:
        return Tally(samples=len(closeness.finite))
    return tally(answers.reference, answers.build, answers.truths, closeness.finite)


def _ranked(
    answers: _Answers | None, names: Sequence[str], closeness: SampleCloseness, keep: int
) -> tuple[Ranked, ...]:
    """The worst `keep` samples of one batch; only their texts are made."""
    finite = closeness.finite
    scores = np.where(finite, 1.0 - closeness.cosine if closeness.kl is None else closeness.kl, WORST_SCORE)
    flipped = np.zeros(len(finite), dtype=bool) if answers is None else answers.reference != answers.build
    severity = np.where(finite, flipped.astype(int), 2)
    order = np.lexsort((-scores, -severity))[:keep]

    def sample(row: int) -> WorstSample:
        build, reference, truth = "not finite" if not finite[row] else "", "", ""
        if answers is not None:
            reference = answers.metric.describe(answers.reference[row])
            build = build or answers.metric.describe(answers.build[row])
            truth = "" if answers.truths is None else answers.metric.describe(answers.truths[row])
        score = min(float(scores[row]), WORST_SCORE)
        return WorstSample(name=names[row], score=score, reference=reference, build=build, truth=truth)

    return tuple(Ranked(severity=int(severity[row]), sample=sample(int(row))) for row in order)


def kept_worst(candidates: tuple[Ranked, ...], keep: int) -> tuple[Ranked, ...]:
    """Sorting is stable: among equals the sample that came first stays first."""
    return tuple(sorted(candidates, key=lambda ranked: (-ranked.severity, -ranked.sample.score))[:keep])


def rung(state: Comparison, options: ComparisonOptions, *, name: str, target: str = "", precision: str = "") -> Rung:
    """The finished rung; SetError when no sample was compared."""
    counts, closeness, metric = state.counts, state.closeness.result(), task_metric(options.task)
    if counts.samples == 0:
        raise SetError(f"expected at least one evaluation sample to compare '{name}' with the reference, found none")
    decision = _decision(state, options)
    labelled = metric is not None and decision is not None and bool(state.labelled)
    judged = _judged(state, decision, closeness, options, precision)
    return Rung(
        name=name,
        target=target,
        precision=precision,
        samples=len(state.clusters) or counts.samples,
        labelled=labelled,
        task=task_comparison(metric.name, counts, decision) if labelled and metric and decision else None,
        agreement=100.0 * counts.agreed / counts.samples if metric else None,
        flips=flips(counts, decision) if labelled and decision else None,
        closeness=closeness,
        worst=tuple(ranked.sample for ranked in state.worst),
        lengths=length_bins(state.by_length, labelled=labelled),
        verdict=judged.verdict,
        reason=judged.reason,
        samples_needed=judged.samples_needed,
    )


def _decision(state: Comparison, options: ComparisonOptions) -> Decision | None:
    """The paired test on answers; None where the answers mean nothing or there are none."""
    counts, margin = state.counts, options.budget.margin
    if not options.trained or task_metric(options.task) is None:
        return None
    if state.clusters:
        return clustered_non_inferiority(state.clusters, margin)
    if state.labelled:
        return non_inferiority(counts.lost, counts.gained, counts.samples, margin)
    return agreement_with_reference(counts.samples - counts.agreed, counts.samples, margin)


def _judged(
    state: Comparison,
    decision: Decision | None,
    closeness: Closeness | None,
    options: ComparisonOptions,
    precision: str,
) -> Judgement:
    """What the verdict rests on; `verdict` gives the reasons for this order."""
    budget, counts = options.budget, state.counts
    words = verdict.Words(answers=f"words of {len(state.clusters)} texts" if state.clusters else "samples")
    if closeness is None or state.not_finite:
        return verdict.not_finite(state.not_finite, counts.samples, state.first_not_finite, words)
    if not options.trained:
        floor = verdict.sqnr_floor(precision) if budget.sqnr_db is None else budget.sqnr_db
        return verdict.untrained(closeness, floor)
    if decision is None:
        return verdict.features(closeness, budget)
    judge = verdict.labelled if state.labelled else verdict.unlabelled
    return judge(decision, counts, budget.margin, words)


def task_comparison(metric: str, counts: Tally, decision: Decision) -> TaskComparison:
    return TaskComparison(
        metric=metric,
        reference=100.0 * counts.reference_right / counts.samples,
        build=100.0 * counts.build_right / counts.samples,
        difference=decision.difference,
        interval=decision.interval,
    )


def flips(counts: Tally, decision: Decision) -> Flips:
    return Flips(lost=counts.lost, gained=counts.gained, changed=counts.changed, mcnemar_p=decision.p)
