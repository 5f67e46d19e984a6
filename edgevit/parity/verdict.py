"""From figures to a verdict and the one sentence that explains it. What the verdict rests on, first match:

1. An output that is NaN or infinite: failed, whatever the rest says.
2. An untrained model: closeness, an SQNR floor by precision. Its labels mean nothing, and its near-equal scores let
   the answer change under errors that no trained model would notice, so neither accuracy nor agreement can decide.
3. A task without class scores (features of images or texts): floors on the mean and the smallest cosine.
4. Labelled samples: non-inferiority of accuracy within the margin (`statistics.non_inferiority`).
5. Unlabelled samples: agreement with the reference, whose labels stand in for the truth; the reason says so.
"""

from __future__ import annotations

from edgevit.parity.statistics import Decision, Margin
from edgevit.parity.tasks import Tally
from edgevit.types import Closeness, Value, Verdict


class Budget(Value, frozen=True, kw_only=True):
    """What a build must keep to be shipped."""

    margin: Margin = Margin()
    cosine_mean: float = 0.99
    """Floor on the mean cosine of features; int8 at 17 dB of SQNR gives about 0.99."""
    cosine_min: float = 0.9
    """Floor on the smallest cosine of features of any sample."""
    sqnr_db: float | None = None
    """Floor for untrained models; None takes `sqnr_floor` of the precision."""


class Judgement(Value, frozen=True, kw_only=True):
    """The last three fields of a rung."""

    verdict: Verdict
    reason: str
    samples_needed: int | None = None


def sqnr_floor(precision: str) -> float:
    """The SQNR, in dB, below which a build of an untrained model is broken rather than rounded.

    float32 engines reach 100 dB and more, and one that silently runs bfloat16 about 42; trained int8 ViTs were seen
    at 14 to 24 dB, and a graph that an engine rewrote wrongly at -3. A stage without a precision gets int8's floor.
    """
    floors = {
        "float32": 60.0,
        "float16": 40.0,
        "bfloat16": 25.0,
        "float8": 10.0,
        "int8": 10.0,
        "int8d": 10.0,
        "int8w": 20.0,
        "int4d": 8.0,
        "int4w": 8.0,
    }
    return floors.get(precision, floors["int8"])


def not_finite(count: int, samples: int, first: str, words: Words) -> Judgement:
    return Judgement(
        verdict="failed",
        reason=f"{count} of {samples} {words.answers} have NaN or infinite outputs, the first is {first}; "
        "closeness covers the others",
    )


def untrained(closeness: Closeness, floor: float) -> Judgement:
    above = closeness.sqnr_db >= floor
    return Judgement(
        verdict="passed" if above else "failed",
        reason=f"untrained model, judged by closeness alone: SQNR {closeness.sqnr_db:.1f} dB is "
        f"{'at or above' if above else 'below'} the floor of {floor:.1f} dB",
    )


def features(closeness: Closeness, budget: Budget) -> Judgement:
    kept = closeness.cosine_mean >= budget.cosine_mean and closeness.cosine_min >= budget.cosine_min
    return Judgement(
        verdict="passed" if kept else "failed",
        reason=f"features, judged by cosine: mean {closeness.cosine_mean:.4f} (floor {budget.cosine_mean:.4f}), "
        f"smallest {closeness.cosine_min:.4f} (floor {budget.cosine_min:.4f})",
    )


class Words(Value, frozen=True, kw_only=True):
    """What a judgement calls the metric and the answers it is an average of."""

    metric: str = "accuracy"
    answers: str = "samples"


def labelled(decision: Decision, counts: Tally, margin: Margin, words: Words) -> Judgement:
    seen = (
        f"{words.metric} {decision.difference:+.2f} points on {counts.samples} {words.answers} "
        f"(lost {counts.lost}, gained {counts.gained}), {_bounds(decision)}"
    )
    if decision.verdict == "failed" and decision.interval.high >= -margin.points:
        why = f"the loss is beyond the budget of {margin.points:g} points and no accident (McNemar p {decision.p:.2g})"
        return Judgement(verdict="failed", reason=f"{seen}: {why}")
    return _judgement(decision, seen, margin)


def unlabelled(decision: Decision, counts: Tally, margin: Margin, words: Words) -> Judgement:
    differ = counts.samples - counts.agreed
    seen = (
        f"no labels, so the reference's answers stand in for the truth: {differ} of {counts.samples} {words.answers} "
        f"differ, at worst {decision.difference:+.2f} points, {_bounds(decision)}"
    )
    return _judgement(decision, seen, margin)


def _bounds(decision: Decision) -> str:
    interval = decision.interval
    return f"{100 * interval.level:g} % interval {interval.low:+.2f} to {interval.high:+.2f}"


def _judgement(decision: Decision, seen: str, margin: Margin) -> Judgement:
    budget = f"the budget of {margin.points:g} points"
    if decision.verdict == "passed":
        why = f"even the lower end is within {budget}"
    elif decision.verdict == "failed":
        why = f"even the upper end is beyond {budget}"
    elif decision.samples_needed is None:
        why = f"the loss seen is so near {budget} that no practical number of samples would decide"
    else:
        why = f"too few samples for {budget}; at these rates {decision.samples_needed} would decide"
    return Judgement(verdict=decision.verdict, reason=f"{seen}: {why}", samples_needed=decision.samples_needed)
