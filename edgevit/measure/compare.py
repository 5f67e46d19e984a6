"""What became significantly slower or faster between two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from edgevit.measure.samples import rounds_of
from edgevit.statistics import median_ratio
from edgevit.types import Ratio, Value

if TYPE_CHECKING:
    from edgevit.types import BenchEntry, BenchReport, Machine

    Key: TypeAlias = tuple[str, str, int, int]

LEAST_CHANGE = 0.03
"""Two runs of one build on one idle machine differ by up to about this much; less is never called a change."""


class Change(Value, frozen=True, kw_only=True):
    """One build under one setting, new report against old."""

    target: str
    precision: str
    batch_size: int
    threads: int
    kind: Literal["slower", "faster", "unchanged", "added", "removed"]
    old_ms: float | None = None
    """Median latency; None when the old report lacks the entry."""
    new_ms: float | None = None
    ratio: Ratio | None = None
    """New over old, ratio of medians with its interval; None for added and removed."""
    machines: tuple[str, ...] = ()
    """How the two machines differ (`cores: 2 -> 4`). Not empty: the change says little about the build."""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"


def compare_reports(old: BenchReport, new: BenchReport) -> tuple[Change, ...]:
    """Every entry of both reports, the new report's order first.

    `slower` or `faster`: the 95 % bootstrap interval of the ratio of medians excludes 1 and the ratio is at least 3 %
    from it. Rounds are resampled, not paired: the two runs did not take turns, so a machine that was busy in one run
    only shows as a change.
    """
    machines = machine_differences(old.machine, new.machine)
    before, after = _by_setting(old), _by_setting(new)
    return tuple(_change(key, before.get(key), after.get(key), machines) for key in dict.fromkeys([*after, *before]))


def machine_differences(old: Machine, new: Machine) -> tuple[str, ...]:
    """One `field: old -> new` per difference that can change a latency, package versions included."""
    fields = ("cpu", "architecture", "cores", "memory_bytes", "instruction_sets", "os", "python", "gpu")
    differences = []
    for field in fields:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            differences.append(f"{field}: {_text(before)} -> {_text(after)}")
    for package in sorted({*old.packages, *new.packages}):
        was, now = old.packages.get(package, "absent"), new.packages.get(package, "absent")
        if was != now:
            differences.append(f"{package}: {was} -> {now}")
    return tuple(differences)


def _change(key: Key, old: BenchEntry | None, new: BenchEntry | None, machines: tuple[str, ...]) -> Change:
    target, precision, batch_size, threads = key
    ratio = _ratio(old, new) if old is not None and new is not None else None
    return Change(
        target=target,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        kind=_kind(old, ratio),
        old_ms=None if old is None else old.latency.p50,
        new_ms=None if new is None else new.latency.p50,
        ratio=ratio,
        machines=machines,
    )


def _ratio(old: BenchEntry, new: BenchEntry) -> Ratio:
    value, interval = median_ratio(rounds_of(new.latency), rounds_of(old.latency))
    return Ratio(value=value, interval=interval, baseline=f"{old.name} of the old report")


def _kind(old: BenchEntry | None, ratio: Ratio | None) -> Literal["slower", "faster", "unchanged", "added", "removed"]:
    if ratio is None:
        return "added" if old is None else "removed"
    if ratio.interval.low > 1 and ratio.value >= 1 + LEAST_CHANGE:
        return "slower"
    if ratio.interval.high < 1 and ratio.value <= 1 - LEAST_CHANGE:
        return "faster"
    return "unchanged"


def _by_setting(report: BenchReport) -> dict[Key, BenchEntry]:
    return {(entry.target, entry.precision, entry.batch_size, entry.threads): entry for entry in report.entries}


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
