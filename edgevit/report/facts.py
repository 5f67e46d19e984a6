"""What is known of each build, put together from the builds, the comparison and the benchmark of a report."""

from __future__ import annotations

import msgspec

from edgevit.report import formats
from edgevit.report.data import ReportData
from edgevit.types import BenchEntry, BenchReport, Build, Rung, Verdict


def margin_reason(rung: Rung, budget: float) -> str:
    """What the interval says against the budget, in a few words; empty where the verdict rests on something else."""
    if rung.task is None:
        return ""
    interval, allowed = rung.task.interval, f"{budget:g} allowed"
    worst = f"{formats.number(max(0.0, -interval.low))} points lost at worst, {allowed}"
    if rung.verdict == "passed":
        return worst
    if rung.verdict == "inconclusive" and rung.samples_needed is not None:
        return f"{worst}; {formats.number(rung.samples_needed, 0)} samples would decide"
    if rung.verdict == "failed" and interval.high < -budget:
        return f"{formats.number(-interval.high)} points lost at best, {allowed}"
    return ""


class BuildFacts(msgspec.Struct, frozen=True):
    """One build with the comparison and the measurement that belong to it."""

    build: Build
    rung: Rung | None
    entry: BenchEntry | None
    not_measured: str = ""
    budget: float | None = None
    """Percentage points that a build may lose."""

    @property
    def name(self) -> str:
        return formats.clean(self.build.name, 80)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.build.files)

    @property
    def verdict(self) -> Verdict:
        return self.rung.verdict if self.rung else self.build.verdict

    @property
    def reason(self) -> str:
        """Why this verdict; in a few words where the figures beside it say the rest."""
        short = margin_reason(self.rung, self.budget) if self.rung and self.budget is not None else ""
        return short or (self.rung.reason if self.rung else self.build.reason) or self.not_measured

    @property
    def latency(self) -> float | None:
        """Median milliseconds: of the benchmark in the report, else as the build itself records it."""
        return self.entry.latency.p50 if self.entry else self.build.latency_ms


def build_facts(data: ReportData) -> tuple[BuildFacts, ...]:
    """Every build of the report, in its order, with its rung and its entry at the headline setting."""
    rungs = {(rung.target, rung.precision): rung for rung in data.parity.rungs} if data.parity else {}
    entries = {entry.name: entry for entry in headline_entries(data.bench)}
    skipped = data.bench.not_executed if data.bench else {}
    return tuple(
        BuildFacts(
            build,
            rungs.get((build.target, build.precision)),
            entries.get(build.name),
            skipped.get(build.name, ""),
            data.parity.budget_points if data.parity else None,
        )
        for build in data.builds
    )


def headline_entries(bench: BenchReport | None) -> tuple[BenchEntry, ...]:
    """One setting for every build: the smallest batch, the first number of threads, the fewest streams."""
    if bench is None or not bench.entries:
        return ()
    batch = min(entry.batch_size for entry in bench.entries)
    at_batch = [entry for entry in bench.entries if entry.batch_size == batch]
    at_threads = [entry for entry in at_batch if entry.threads == at_batch[0].threads]
    streams = min(entry.streams for entry in at_threads)
    return tuple(entry for entry in at_threads if entry.streams == streams)


def setting(entry: BenchEntry) -> str:
    return (
        f"batch {entry.batch_size}, {formats.count(entry.threads, 'thread')}, {formats.count(entry.streams, 'stream')}"
    )


def baseline_of(fact: BuildFacts, facts: tuple[BuildFacts, ...]) -> BuildFacts | None:
    """The float32 build that a build is weighed against: its target's own, else the first there is."""
    floats = [other for other in facts if other.build.precision == "float32"]
    own = [other for other in floats if other.build.target == fact.build.target]
    return next(iter(own + floats), None)


def size_ratio(fact: BuildFacts, facts: tuple[BuildFacts, ...]) -> float | None:
    baseline = baseline_of(fact, facts)
    if baseline is None or baseline is fact or not baseline.size:
        return None
    return fact.size / baseline.size


def best(data: ReportData) -> BuildFacts | None:
    """The fastest measured build below float32 that passed (for an untrained model: that did not fail)."""
    wanted = ("passed",) if data.trained else ("passed", "inconclusive", "not executed")
    facts = [
        fact
        for fact in build_facts(data)
        if fact.entry and fact.entry.ratio and fact.build.precision != "float32" and fact.verdict in wanted
    ]
    return min(facts, key=lambda fact: fact.entry.latency.p50 if fact.entry else 0.0, default=None)
