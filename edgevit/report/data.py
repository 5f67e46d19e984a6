"""What a report says, as one value; `report.json` is its JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgevit.errors import InputError
from edgevit.types import BenchReport, Build, Machine, ParityReport, QuantPlan, Rung, SkippedLayer, Value

UNTRAINED = "untrained: speed and size only"


class StageCost(Value, frozen=True, kw_only=True):
    """What one stage of an export cost."""

    stage: str
    seconds: float
    peak_bytes: int
    """Peak resident memory while the stage ran."""


class CalibrationFacts(Value, frozen=True, kw_only=True):
    """What the activation ranges were measured on."""

    set: str
    samples: int
    seed: int = 0
    classes_seen: int | None = None
    """How many of the model's classes the samples cover; None where the set has no labels."""
    classes: int | None = None
    disjoint: bool | None = None
    """No sample is also in the evaluation set, by content hash; None when that was not checked."""


class PlanSummary(Value, frozen=True, kw_only=True):
    """A `QuantPlan` in counts."""

    kinds: dict[str, int]
    """`linear` or `conv` to the number of int8 layers."""
    input_methods: dict[str, int]
    weight_methods: dict[str, int]
    equalized: int
    bias_corrected: int
    safe_without_vnni: bool = False
    skipped: tuple[SkippedLayer, ...]

    @property
    def quantized(self) -> int:
        return sum(self.kinds.values())


class ReportData(Value, frozen=True, kw_only=True):
    """Everything one report shows. For an untrained model it drops every accuracy it is handed (see below)."""

    schema: int = 1
    model: str
    digest: str
    task: str
    trained: bool
    created: str
    """UTC, ISO 8601."""
    machine: Machine
    """Where the builds were made."""
    builds: tuple[Build, ...]
    command: str = ""
    """The command line that makes this bundle again."""
    parity: ParityReport | None = None
    bench: BenchReport | None = None
    plan: PlanSummary | None = None
    calibration: CalibrationFacts | None = None
    stages: tuple[StageCost, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Random weights give labels that mean nothing. Dropping them in the value itself, rather than in each
        # renderer, keeps them out of report.json as well.
        if self.trained:
            return
        # force_setattr is msgspec's way to normalize a frozen struct while it is being made.
        if self.parity is None or self.parity.trained:
            msgspec.structs.force_setattr(self, "builds", tuple(_speed_only(build) for build in self.builds))
        if self.parity is not None:
            msgspec.structs.force_setattr(self, "parity", without_accuracy(self.parity))


def without_accuracy(parity: ParityReport) -> ParityReport:
    """The same comparisons with numerical closeness alone: no labels, no metric, no agreement, no samples by name.

    The reasons stay when the comparison already knew that the model is untrained; otherwise they speak of accuracy.
    """
    rungs = tuple(_closeness_only(rung, keep_reason=not parity.trained) for rung in parity.rungs)
    return msgspec.structs.replace(parity, trained=False, rungs=rungs)


def _closeness_only(rung: Rung, keep_reason: bool) -> Rung:
    closeness = rung.closeness
    if closeness is not None:
        closeness = msgspec.structs.replace(closeness, kl_mean=None, kl_max=None)
    return msgspec.structs.replace(
        rung,
        labelled=False,
        task=None,
        agreement=None,
        flips=None,
        worst=(),
        scores=(),
        tokens=None,
        lengths=(),
        closeness=closeness,
        samples_needed=None,
        reason=rung.reason if keep_reason or rung.verdict == "not executed" else UNTRAINED,
    )


def _speed_only(build: Build) -> Build:
    return build if build.verdict == "not executed" else msgspec.structs.replace(build, reason=UNTRAINED)


def summarize_plan(plan: QuantPlan) -> PlanSummary:
    """Counts of a plan: layers by kind, how their ranges were chosen, and why the others stay in float."""
    return PlanSummary(
        kinds=_counts(layer.kind for layer in plan.layers),
        input_methods=_counts(layer.input_method for layer in plan.layers),
        weight_methods=_counts(layer.weight_method for layer in plan.layers),
        equalized=sum(bool(layer.equalization) for layer in plan.layers),
        bias_corrected=sum(bool(layer.bias_correction) for layer in plan.layers),
        safe_without_vnni=plan.safe_without_vnni,
        skipped=plan.skipped,
    )


def _counts(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def encode_report(data: ReportData) -> bytes:
    """JSON, indented, keys in declaration order."""
    return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"


def read_report(path: Path) -> ReportData:
    """Reloads `report.json`. Raises InputError when it is missing, no report, or of a later schema."""
    try:
        data = msgspec.json.decode(path.read_bytes(), type=ReportData)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"expected a report.json of edgevit at {path}, found: {error}; export the bundle again"
        ) from error
    if data.schema > 1:
        raise InputError(f"expected a report of schema 1 at {path}, found schema {data.schema}; update edgevit")
    return data
