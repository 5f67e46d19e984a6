"""What became significantly slower or faster between two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from edgevit.errors import InputError
from edgevit.measure.samples import rounds_of
from edgevit.statistics import median_ratio
from edgevit.types import Ratio, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.types import BenchEntry, BenchReport, Latency, Machine

    Key: TypeAlias = tuple[str, str, int, int, tuple[int, int] | None]
    """Target, precision, batch, threads, and of what writes the tokens read and written."""

LEAST_CHANGE = 0.03
"""Two runs of one build on one idle machine differ by up to about this much; less is never called a change."""


class Change(Value, frozen=True, kw_only=True):
    """One build under one setting, new report against old."""

    target: str
    precision: str
    batch_size: int
    threads: int
    tokens: int | None = None
    """Written for each source, by builds that write."""
    kind: Literal["slower", "faster", "unchanged", "added", "removed"]
    old_ms: float | None = None
    """Median latency; None when the old report lacks the entry."""
    new_ms: float | None = None
    ratio: Ratio | None = None
    """New over old, ratio of medians with its interval; None for added and removed."""
    further: Ratio | None = None
    """The same of a further token, for builds that write."""
    machines: tuple[str, ...] = ()
    """How the two machines differ (`cores: 2 -> 4`). Not empty: the change says little about the build."""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"


def compare_reports(old: BenchReport, new: BenchReport) -> tuple[Change, ...]:
    """Every entry of both reports, the new report's order first.

    `slower` or `faster`: the 95 % bootstrap interval of the ratio of medians excludes 1 and the ratio is at least 3 %
    from it; of builds that write the latency of one call and that of a further token are looked at, and what is slower
    in one of them is slower. Texts of other lengths are another setting. Rounds are resampled, not paired: the two runs
    did not take turns, so a machine that was busy in one run only shows as a change. Raises InputError for entries that
    a vendor's program measured, which gives no samples.
    """
    for entry in (*old.entries, *new.entries):
        if entry.runner:
            raise InputError(
                f"expected reports that edgevit measured, whose samples say what is noise, found {entry.name} of "
                f"{entry.runner}; leave --compare out"
            )
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
    target, precision, batch_size, threads, lengths = key
    ratio = further = None
    if old is not None and new is not None:
        baseline = f"{old.name} of the old report"
        ratio = _ratio(old.latency, new.latency, baseline)
        if old.generation is not None and new.generation is not None:
            further = _ratio(old.generation.next_token, new.generation.next_token, baseline)
    return Change(
        target=target,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        tokens=None if lengths is None else lengths[1],
        kind=_kind(old, [found for found in (ratio, further) if found is not None]),
        old_ms=None if old is None else old.latency.p50,
        new_ms=None if new is None else new.latency.p50,
        ratio=ratio,
        further=further,
        machines=machines,
    )


def _ratio(old: Latency, new: Latency, baseline: str) -> Ratio:
    value, interval = median_ratio(rounds_of(new), rounds_of(old))
    return Ratio(value=value, interval=interval, baseline=baseline)


def _kind(
    old: BenchEntry | None, ratios: Sequence[Ratio]
) -> Literal["slower", "faster", "unchanged", "added", "removed"]:
    if not ratios:
        return "added" if old is None else "removed"
    if any(ratio.interval.low > 1 and ratio.value >= 1 + LEAST_CHANGE for ratio in ratios):
        return "slower"
    if any(ratio.interval.high < 1 and ratio.value <= 1 - LEAST_CHANGE for ratio in ratios):
        return "faster"
    return "unchanged"


def _by_setting(report: BenchReport) -> dict[Key, BenchEntry]:
    return {
        (entry.target, entry.precision, entry.batch_size, entry.threads, _lengths(entry)): entry
        for entry in report.entries
    }


def _lengths(entry: BenchEntry) -> tuple[int, int] | None:
    return (entry.generation.source_length, entry.generation.tokens) if entry.generation else None


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
