"""A rung whose samples were compared in several places: each gives a part, and the parts in order give the rung.

The rung is the one that a single pass over all samples gives, to the last bit: see `compare.followed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from edgevit.errors import EdgevitError, SetError, UnavailableError
from edgevit.parity import compare, sequences
from edgevit.parity.compare import Comparison, ComparisonOptions
from edgevit.parity.ladder import Stage, reference_outputs, stage_step, unjudged
from edgevit.parity.sequences import SequenceOptions, Sequences, Translator, Written, check_written

if TYPE_CHECKING:
    from edgevit.parity.ladder import EvaluationBatch, Runnable
    from edgevit.types import Arrays, PixelDifference, Rung

Steps: TypeAlias = "tuple[Comparison, ...] | tuple[Sequences, ...]"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage made of consecutive samples: a value for each batch, some dozen numbers per sample at most."""

    steps: Steps = ()
    verdict: Literal["", "failed", "not executed"] = ""
    """Where the stage stopped: after these steps."""
    reason: str = ""
    preprocessing: PixelDifference | None = None
    """Of the first part of a build with the preprocessing inside."""


def outputs_part(
    batches: Iterable[EvaluationBatch],
    reference: Callable[[Arrays], Arrays],
    session: Runnable,
    stage: Stage,
    options: ComparisonOptions,
) -> Part:
    """Of a stage's outputs; raises what `ladder.climb` raises."""
    steps: list[Comparison] = []
    for batch in batches:
        expected = reference_outputs(reference(batch.inputs), batch, options)
        try:
            steps.append(stage_step(session, stage.name, batch, expected, options))
        except SetError:
            raise
        except EdgevitError as error:
            return _stopped(tuple(steps), error)
    return Part(steps=tuple(steps))


def sequences_part(batches: Iterable[Written], translator: Translator, options: SequenceOptions) -> Part:
    """Of what a stage writes; raises what `sequences.compare_sequences` raises."""
    steps: list[Sequences] = []
    for batch in batches:
        check_written(batch)
        try:
            steps.append(sequences.compared(batch, translator, options))
        except SetError:
            raise
        except EdgevitError as error:
            return _stopped(tuple(steps), error)
    return Part(steps=tuple(steps))


def _stopped(steps: Steps, error: EdgevitError) -> Part:
    verdict: Literal["failed", "not executed"] = "not executed" if isinstance(error, UnavailableError) else "failed"
    return Part(steps=steps, verdict=verdict, reason=str(error))


def joined_rung(stage: Stage, parts: Sequence[Part], options: ComparisonOptions) -> Rung:
    """The rung of all parts in the order of their samples.

    Raises SetError for no sample at all, and for labels that only some parts have.
    """
    state: Comparison | Sequences | None = None
    for part in parts:
        for step in part.steps:
            state = _followed(state, step, options)
        if part.verdict:
            samples = 0 if state is None else state.counts.samples
            reason = f"stopped after {samples} samples: {part.reason}" if part.verdict == "failed" else part.reason
            return unjudged(stage, samples, part.verdict, reason)
    if isinstance(state, Sequences):
        return sequences.rung(state, stage, options)
    state = state or Comparison()
    return compare.rung(state, options, name=stage.name, target=stage.target, precision=stage.precision)


def _followed(
    state: Comparison | Sequences | None, step: Comparison | Sequences, options: ComparisonOptions
) -> Comparison | Sequences:
    if isinstance(step, Sequences):
        assert not isinstance(state, Comparison)
        return sequences.followed(state or Sequences(), step, options)
    assert not isinstance(state, Sequences)
    return compare.followed(state or Comparison(), step, options)
