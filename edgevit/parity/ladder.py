"""The ladder: every stage and every build against the float reference, in one pass over the evaluation samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from edgevit.errors import EdgevitError, InputError, SetError, UnavailableError
from edgevit.parity.compare import (
    Comparison,
    ComparisonOptions,
    Outputs,
    check_reference,
    compared,
    followed,
    rung,
)
from edgevit.parity.tasks import Labels
from edgevit.types import ParityReport, Rung, Verdict

if TYPE_CHECKING:
    from edgevit.parity.metrics import BoolArray
    from edgevit.types import Arrays

Progress: TypeAlias = Callable[[int], None]
"""Called after each batch with the number of samples done."""


class Runnable(Protocol):
    """What a stage needs of a session."""

    def run(self, inputs: Arrays) -> Arrays: ...


class EvaluationBatch(Protocol):
    """Preprocessed evaluation samples; `sets.batches` yields them."""

    @property
    def names(self) -> Sequence[str]:
        """One per sample, as people know them: a file name, for example."""

    @property
    def inputs(self) -> Arrays:
        """The model's inputs by name, first axis the batch."""

    @property
    def labels(self) -> Labels | None:
        """Class index per sample; None, or None for every sample, in an unlabelled set."""

    @property
    def words(self) -> BoolArray | None:
        """Of texts: which tokens begin a word; None for images."""

    @property
    def lengths(self) -> Sequence[int] | None:
        """Of texts: tokens of each; None for images."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to compare with the reference; without a session it is listed as not executed."""

    name: str
    session: Runnable | None = None
    target: str = ""
    precision: str = ""
    reason: str = ""
    """Why there is no session."""


class _Climb(msgspec.Struct, frozen=True):
    """One stage after some batches."""

    stage: Stage
    state: Comparison = Comparison()
    error: EdgevitError | None = None


def climb(
    batches: Iterable[EvaluationBatch],
    reference: Callable[[Arrays], Arrays],
    stages: Sequence[Stage],
    options: ComparisonOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Rung, ...]:
    """One rung per stage, in the order of `stages`; `batches` is read once and `reference` runs once per batch.

    `reference` is the float32 model: inputs to outputs, by name. A stage that raises an EdgevitError gets a failed
    rung with that reason (`not executed` for UnavailableError) and is left out of later batches, the others go on;
    any other exception is a defect and propagates. So does whatever is wrong with the reference or the set itself:
    InputError, SetError.
    """
    options = options or ComparisonOptions()
    climbs = tuple(_Climb(stage) for stage in stages)
    done = 0
    for batch in batches:
        expected = reference_outputs(reference(batch.inputs), batch, options)
        climbs = tuple(_stepped(one, batch, expected, options) for one in climbs)
        done += len(batch.names)
        if progress is not None:
            progress(done)
    if done == 0:
        raise SetError("expected at least one evaluation sample, found an empty set")
    return tuple(_finished(one, options) for one in climbs)


class Expected(msgspec.Struct, frozen=True):
    """What the reference made of one batch."""

    output: str
    outputs: Outputs


def reference_outputs(outputs: Arrays, batch: EvaluationBatch, options: ComparisonOptions) -> Expected:
    """The output that is compared. Raises InputError where the reference has none, or one that is not finite."""
    output = options.output or next(iter(outputs), "")
    if output not in outputs:
        raise InputError(f"expected an output '{output}' of the float reference, found {', '.join(outputs) or 'none'}")
    values, labels = outputs[output], batch.labels
    expected = Outputs(names=batch.names, values=values, labels=labels, words=batch.words, lengths=batch.lengths)
    check_reference(expected)
    return Expected(output, expected)


def _stepped(one: _Climb, batch: EvaluationBatch, expected: Expected, options: ComparisonOptions) -> _Climb:
    if one.stage.session is None or one.error is not None:
        return one
    try:
        step = stage_step(one.stage.session, one.stage.name, batch, expected, options)
        state = followed(one.state, step, options)
    except SetError:
        raise
    except EdgevitError as error:
        return _Climb(one.stage, one.state, error)
    return _Climb(one.stage, state)


def stage_step(
    session: Runnable, name: str, batch: EvaluationBatch, expected: Expected, options: ComparisonOptions
) -> Comparison:
    """What one batch tells of a stage. Raises whatever its session raises, and InputError for outputs that differ."""
    outputs = session.run(batch.inputs)
    if expected.output not in outputs:
        found = ", ".join(outputs) or "none"
        raise InputError(f"expected an output '{expected.output}' of '{name}', found {found}")
    return compared(expected.outputs, outputs[expected.output], options)


def _finished(one: _Climb, options: ComparisonOptions) -> Rung:
    stage, samples = one.stage, one.state.counts.samples
    if stage.session is None:
        return unjudged(stage, 0, "not executed", stage.reason or "no session was opened for it on this machine")
    if isinstance(one.error, UnavailableError):
        return unjudged(stage, samples, "not executed", str(one.error))
    if one.error is not None:
        return unjudged(stage, samples, "failed", f"stopped after {samples} samples: {one.error}")
    return rung(one.state, options, name=stage.name, target=stage.target, precision=stage.precision)


def unjudged(stage: Stage, samples: int, verdict: Verdict, reason: str) -> Rung:
    return Rung(
        name=stage.name,
        target=stage.target,
        precision=stage.precision,
        samples=samples,
        labelled=False,
        verdict=verdict,
        reason=reason,
    )


def out_of_budget(report: ParityReport) -> tuple[str, ...]:
    """Names of the failed rungs, in order; a command exits with 1 when there is one.

    Stages count as much as builds: a build that cannot be executed here (another device's) is known to be broken only
    through the stage it was made from. `inconclusive` and `not executed` are reported, but do not fail a command.
    """
    return tuple(rung.name for rung in report.rungs if rung.verdict == "failed")


def summary(report: ParityReport) -> str:
    """One line for people: how many rungs have which verdict, and the names of those that are not passed."""
    verdicts: tuple[Verdict, ...] = ("passed", "failed", "inconclusive", "not executed")
    counts = Counter(rung.verdict for rung in report.rungs)
    parts = []
    for verdict in verdicts:
        names = "" if verdict == "passed" else ", ".join(rung.name for rung in report.rungs if rung.verdict == verdict)
        if counts[verdict]:
            parts.append(f"{counts[verdict]} {verdict}" + (f" ({names})" if names else ""))
    return "; ".join(parts) or "nothing was compared"
