"""The one place that decides which columns a report has and what its cells say; renderers only lay them out."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgevit.report import formats
from edgevit.report.data import UNTRAINED, ReportData
from edgevit.report.facts import BuildFacts, best, build_facts, headline_entries, setting, size_ratio
from edgevit.types import BenchEntry, Build, Interval, Rung, Verdict

Tone = Literal["", "good", "bad", "warn", "idle"]

VERDICT_WORDS: dict[Verdict, str] = {
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "inconclusive",
    "not executed": "built, not executed",
}
VERDICT_TONES: dict[Verdict, Tone] = {"passed": "good", "failed": "bad", "inconclusive": "warn", "not executed": "idle"}


class Cell(msgspec.Struct, frozen=True):
    text: str = formats.NOTHING
    note: str = ""
    """What qualifies the text: an interval, a reason. Second line in HTML, brackets in Markdown."""
    tone: Tone = ""

    @property
    def empty(self) -> bool:
        return self.text == formats.NOTHING and not self.note


class Column(msgspec.Struct, frozen=True):
    title: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    kind: Literal["", "name", "verdict", "code", "kept"] = ""
    """What HTML does with it; `kept` is never broken into lines."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Columns and rows of cells; the first column names the row."""

    name: str
    caption: str = ""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    spare: tuple[str, ...] = ()
    """Titles of the columns that are left out, in this order, where there is no room for all of them."""


NAME = Column("build", align="left", kind="name")
VERDICT = Column("verdict", align="left", kind="verdict")


def used(name: str, caption: str, columns: list[tuple[Column, list[Cell]]], *, spare: tuple[str, ...] = ()) -> Table:
    """A table of the columns that hold anything; the first always stays."""
    kept = [pair for index, pair in enumerate(columns) if index == 0 or not all(cell.empty for cell in pair[1])]
    rows = tuple(zip(*(cells for _, cells in kept), strict=True))
    return Table(name=name, caption=caption, columns=tuple(column for column, _ in kept), rows=rows, spare=spare)


# ------------------------------------------------------------------------------------------------ summary


def summary_table(data: ReportData) -> Table:
    """One row per build: verdict, size, latency, accuracy, closeness, what really ran, whether it is worth it.

    A column without any value (no benchmark, no parity, an untrained model) is left out.
    """
    facts = build_facts(data)
    unit = formats.size_unit([fact.size for fact in facts])
    places = formats.places_for(fact.latency for fact in facts if fact.latency)
    metric = next((fact.rung.task.metric for fact in facts if fact.rung and fact.rung.task), "top-1")
    columns = [
        (NAME, [Cell(fact.name, _engine(fact.build)) for fact in facts]),
        (VERDICT, [verdict_cell(fact) for fact in facts]),
        (Column("size", unit.name), [_size_cell(fact, facts, unit) for fact in facts]),
        (Column("latency p50", "ms"), [_latency_cell(fact, places) for fact in facts]),
        (Column(formats.clean(metric), "%"), [task_cell(fact.rung) for fact in facts]),
        (Column("agreement", "%"), [agreement_cell(fact.rung) for fact in facts]),
        (Column("SQNR", "dB"), [_sqnr_cell(fact.rung, data.trained) for fact in facts]),
        (Column("executed", align="left", kind="kept"), [_executed_cell(fact) for fact in facts]),
        (Column("worth it", align="left", kind="kept"), [_worth_cell(fact) for fact in facts]),
    ]
    return used("summary", summary_caption(data), columns)


def summary_caption(data: ReportData) -> str:
    """What the figures of the summary are compared with, on which set and under which setting."""
    parts = []
    if data.parity is not None and data.trained:
        parts.append(_reference_sentence(data))
    entries = headline_entries(data.bench)
    if entries:
        baseline = next((entry.ratio.baseline for entry in entries if entry.ratio), "")
        against = " of the same target" if len({e.ratio.baseline for e in entries if e.ratio}) > 1 else f" ({baseline})"
        ratio = f"; × is the ratio to the float32 build{formats.clean(against) if baseline else ''}" if baseline else ""
        parts.append(f"Latency at {setting(entries[0])}{ratio}.")
    levels = {formats.level(i) for i in _intervals(data)}
    if len(levels) == 1:
        parts.append(f"Intervals in brackets are at {levels.pop()} confidence.")
    return " ".join(parts)


def _reference_sentence(data: ReportData) -> str:
    assert data.parity is not None
    rung = next((rung for rung in data.parity.rungs if rung.verdict != "not executed"), None)
    if rung is None:
        return ""
    truth = f" ({formats.number(rung.task.reference)} % {formats.clean(rung.task.metric)})" if rung.task else ""
    images = formats.count(rung.samples, "sample")
    budget = formats.number(data.parity.budget_points, 2).rstrip("0").rstrip(".")
    return (
        f"Compared with the float32 reference in {formats.clean(data.parity.reference)}{truth} on {images} of "
        f"{formats.clean(data.parity.set, 80)}; "
        f"a build may lose at most {budget} points."
    )


def _intervals(data: ReportData) -> list[Interval]:
    tasks = [rung.task.interval for rung in data.parity.rungs if rung.task] if data.parity else []
    return tasks + [entry.ratio.interval for entry in headline_entries(data.bench) if entry.ratio]


def verdict_cell(fact: BuildFacts) -> Cell:
    if fact.verdict == "not executed" and fact.rung is None and (fact.entry or fact.build.execution):
        return Cell("not compared", "it runs here; this report holds no comparison of it", "idle")
    return Cell(VERDICT_WORDS[fact.verdict], formats.clean(fact.reason), VERDICT_TONES[fact.verdict])


def _engine(build: Build) -> str:
    device = f" on {build.engine.device}" if build.engine.device != "CPU" else ""
    return formats.clean(f"{build.engine.name} {build.engine.version}{device}", 80)


def _size_cell(fact: BuildFacts, facts: tuple[BuildFacts, ...], unit: formats.SizeUnit) -> Cell:
    ratio = size_ratio(fact, facts)
    return Cell(formats.size(fact.size, unit), "" if ratio is None else f"{formats.number(ratio)} ×")


def _latency_cell(fact: BuildFacts, places: int) -> Cell:
    if fact.latency is None:
        return Cell()
    return Cell(formats.number(fact.latency, places), ratio_text(fact.entry))


def ratio_text(entry: BenchEntry | None) -> str:
    if entry is None or entry.ratio is None:
        return ""
    return f"{formats.number(entry.ratio.value)} × {formats.interval(entry.ratio.interval)}"


def task_cell(rung: Rung | None) -> Cell:
    if rung is None or rung.task is None:
        return Cell()
    task = rung.task
    return Cell(
        formats.number(task.build), f"{formats.signed(task.difference)} {formats.interval(task.interval, signs=True)}"
    )


def agreement_cell(rung: Rung | None) -> Cell:
    if rung is None or rung.agreement is None:
        return Cell()
    flips = f"{rung.flips.lost} lost, {rung.flips.gained} gained" if rung.flips else ""
    return Cell(formats.number(rung.agreement), flips)


def _sqnr_cell(rung: Rung | None, trained: bool) -> Cell:
    # SQNR on random weights flatters quantization (no outliers to lose), so it stays out of the summary.
    if rung is None or rung.closeness is None or not trained:
        return Cell()
    return Cell(formats.decibels(rung.closeness.sqnr_db))


def _executed_cell(fact: BuildFacts) -> Cell:
    execution = fact.build.execution
    precision = fact.entry.executed_precision if fact.entry else execution.precision if execution else ""
    if not precision:
        return Cell()
    if execution is None or not execution.quantized_requested:
        return Cell(formats.clean(precision))
    short = execution.quantized_executed < execution.quantized_requested
    share = f"{execution.quantized_executed} of {formats.count(execution.quantized_requested, 'layer')}"
    return Cell(formats.clean(precision), share, "warn" if short else "")


def _worth_cell(fact: BuildFacts) -> Cell:
    verdict = (fact.entry.verdict if fact.entry else "") or fact.build.worth
    if not verdict:
        return Cell()
    return Cell(formats.clean(verdict), "", "warn" if verdict.startswith("not") else "")


# ----------------------------------------------------------------------------------------------- headline


def headline(data: ReportData) -> str:
    """One sentence for the top of the page: how many builds ended in which verdict."""
    facts = build_facts(data)
    words = [verdict_cell(fact).text for fact in facts]
    order = [*VERDICT_WORDS.values(), "not compared"]
    counts = [f"{words.count(word)} {word}" for word in order if word in words]
    sentence = " · ".join([formats.count(len(facts), "build"), *counts]) if facts else "No builds"
    return sentence if data.trained else f"{sentence} · {UNTRAINED}"


class Tile(msgspec.Struct, frozen=True):
    """One figure that can be read from across the room."""

    label: str
    value: str
    note: str = ""


def tiles(data: ReportData) -> tuple[Tile, ...]:
    """What the fastest good build below float32 brings and costs; none when no build qualifies."""
    fact = best(data)
    if fact is None or fact.entry is None or fact.entry.ratio is None:
        return ()
    ratio = fact.entry.ratio
    every = [other.entry.latency.p50 for other in build_facts(data) if other.entry and other.verdict != "failed"]
    label = "fastest build" if fact.entry.latency.p50 <= min(every) else "fastest build below float32"
    found = [Tile(f"{label} that passed" if data.trained else label, fact.name, _engine(fact.build))]
    places = formats.places_for([fact.entry.latency.p50])
    found.append(
        Tile(
            f"latency vs {formats.clean(ratio.baseline, 60)}",
            f"{formats.number(ratio.value)} ×",
            f"{formats.number(fact.entry.latency.p50, places)} ms, {formats.interval(ratio.interval)}",
        )
    )
    if fact.rung and fact.rung.task:
        task = fact.rung.task
        found.append(
            Tile(
                f"{formats.clean(task.metric, 40)} vs float reference, points",
                formats.signed(task.difference),
                f"{formats.number(task.build)} %, {formats.interval(task.interval, signs=True)}",
            )
        )
    smaller = size_ratio(fact, build_facts(data))
    if smaller is not None:
        found.append(Tile("size vs float32", f"{formats.number(smaller)} ×", formats.size(fact.size)))
    return tuple(found)
