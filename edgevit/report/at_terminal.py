"""The tables of the terminal: one short line per build, within 80 columns. What they leave out is in the report.

A cell holds one value and no note; intervals, reasons and file names are for the page and the Markdown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.data import ReportData, without_accuracy
from edgevit.report.details import drift_caption, drift_text, images_caption
from edgevit.report.facts import BuildFacts, build_facts
from edgevit.report.rows import VERDICT_TONES, Cell, Column, Table, used, verdict_cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgevit.types import BenchEntry, BenchReport, Closeness, GenerationTimes, ParityReport, Rung

_NAME = Column("build", align="left", kind="name")
_VERDICT = Column("verdict", align="left", kind="verdict")
_NAMED = 4
"""How many layers a remark names before it only counts them."""


def summary(data: ReportData) -> Table:
    """One line per build: verdict, size, latency, accuracy, closeness, what really ran, whether it is worth it."""
    facts = build_facts(data)
    rungs = [fact.rung for fact in facts]
    unit = formats.size_unit([fact.size for fact in facts])
    places = formats.places_for(fact.latency for fact in facts if fact.latency)
    columns = [
        (_NAME, [Cell(fact.name) for fact in facts]),
        (_VERDICT, [_verdict(fact) for fact in facts]),
        (Column("size", unit.name), [Cell(formats.size(fact.size, unit)) for fact in facts]),
        (Column("p50", "ms"), [Cell(formats.number(fact.latency, places)) for fact in facts]),
        (Column("×", "f32"), [_ratio(fact.entry) for fact in facts]),
        *_accuracy(rungs),
        (Column("BLEU"), [_corpus(rung, "BLEU") for rung in rungs]),
        (Column("SQNR", "dB"), [_sqnr(rung) if data.trained else Cell() for rung in rungs]),
        (Column("runs in", align="left"), [_executed(fact) for fact in facts]),
        (Column("worth", "it", align="left"), [_worth(fact) for fact in facts]),
    ]
    return used("summary", _summary_caption(data), columns, spare=("SQNR", "worth", "size", "BLEU"))


def ladder(parity: ParityReport) -> Table:
    """One line per rung, each against the float reference."""
    shown = parity if parity.trained else without_accuracy(parity)
    rungs = shown.rungs
    close = [rung.closeness for rung in rungs]
    columns = [
        (Column("compared", align="left", kind="name"), [Cell(formats.clean(rung.name, 80)) for rung in rungs]),
        (_VERDICT, [Cell(rung.verdict, "", VERDICT_TONES[rung.verdict]) for rung in rungs]),
        *_accuracy(rungs),
        *(_agreement(rungs) if any(rung.task for rung in rungs) else ()),
        (Column("BLEU"), [_corpus(rung, "BLEU") for rung in rungs]),
        (Column("chrF"), [_corpus(rung, "chrF") for rung in rungs]),
        (Column("next", "%"), [_next_token(rung) for rung in rungs]),
        (Column("lost"), [Cell(str(rung.flips.lost)) if rung.flips else Cell() for rung in rungs]),
        (Column("gained"), [Cell(str(rung.flips.gained)) if rung.flips else Cell() for rung in rungs]),
        (Column("SQNR", "dB"), [_sqnr(rung) for rung in rungs]),
        (Column("KL", "nats"), [_divergence(closeness) for closeness in close]),
        (Column("pixels", "levels"), [_own_pixels(rung) for rung in rungs]),
    ]
    return used("ladder", _ladder_caption(shown), columns, spare=("KL", "gained", "lost", "chrF", "next"))


def measurements(bench: BenchReport) -> Table:
    """One line per build and setting."""
    entries = bench.entries
    memory = formats.size_unit([entry.peak_memory_bytes for entry in entries])
    places = formats.places_for(entry.latency.p50 for entry in entries)
    starts = [entry.cold_start for entry in entries]
    columns = [
        (_NAME, [Cell(formats.clean(entry.name, 80)) for entry in entries]),
        (Column("batch"), _where_it_varies([entry.batch_size for entry in entries])),
        (Column("threads"), _where_it_varies([entry.threads for entry in entries])),
        (Column("p50", "ms"), [Cell(formats.number(entry.latency.p50, places)) for entry in entries]),
        (Column("×", "f32"), [_ratio(entry) for entry in entries]),
        (Column("p90", "ms"), [Cell(formats.number(entry.latency.p90, places)) for entry in entries]),
        (Column("p99", "ms"), [Cell(formats.number(entry.latency.p99, places)) for entry in entries]),
        (Column("drift", "%"), [_drift(entry) for entry in entries]),
        (Column("items", "/s"), [Cell(formats.number(entry.throughput, 0)) for entry in entries]),
        (Column("cold", "ms"), [Cell() if cold is None else Cell(formats.number(cold.first_ms, 0)) for cold in starts]),
        (
            Column("cached", "ms"),
            [Cell() if cold is None else Cell(formats.number(cold.cached_ms, 0)) for cold in starts],
        ),
        (Column("memory", memory.name), [Cell(formats.size(entry.peak_memory_bytes, memory)) for entry in entries]),
        (Column("worth", "it", align="left"), [_worth_it(entry.verdict) for entry in entries]),
    ]
    return used("measurements", _bench_caption(bench), columns, spare=("p90", "cached", "drift", "memory", "p99"))


def writing(bench: BenchReport) -> Table:
    """One line per build that writes and setting: what its tokens cost, and how the process grows meanwhile."""
    entries = [(entry, entry.generation) for entry in bench.entries if entry.generation]
    times = [found for _, found in entries]
    places = formats.places_for(found.next_token.p50 for found in times)
    beams = dict.fromkeys(rate.beams for found in times for rate in found.rates)
    memory = formats.size_unit([at.resident_bytes for found in times for at in found.memory])
    columns = [
        (_NAME, [Cell(formats.clean(entry.name, 80)) for entry, _ in entries]),
        (Column("batch"), _where_it_varies([entry.batch_size for entry, _ in entries])),
        (Column("first", "ms"), [Cell(formats.number(found.first_token.p50, places)) for found in times]),
        (Column("next", "ms"), [Cell(formats.number(found.next_token.p50, places)) for found in times]),
        (Column("last", "ms"), [Cell(formats.number(found.by_place[-1], places)) for found in times]),
        *(
            (Column(f"beams {count}", "tok/s"), [_tokens_per_second(found, count) for found in times])
            for count in beams
        ),
        (Column("no cache", "tok/s"), [_number(found.without_cache) for found in times]),
        (
            Column("memory", memory.name),
            [Cell(formats.size(found.memory[-1].resident_bytes, memory)) for found in times],
        ),
    ]
    lengths = {(found.tokens, found.source_length) for found in times}
    written = " or ".join(f"{tokens} tokens for a source of {source}" for tokens, source in sorted(lengths))
    caption = (
        f"Writing {written}, each source of the batch. first: from the source to its first token; next: one further "
        "token; last: the last one; tok/s: of the whole batch."
    )
    return used("writing", caption, columns, spare=("memory", "last"))


def remarks(data: ReportData) -> Iterator[str]:
    """What a person should know before using the bundle: every verdict but passed, with why, and the warnings."""
    facts = build_facts(data)
    reasons: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        if fact.verdict != "passed" and fact.reason:
            reasons.setdefault((_verdict(fact).text, fact.reason), []).append(fact.name)
    built = {(fact.build.target, fact.build.precision) for fact in facts}
    for rung in data.parity.rungs if data.parity else ():
        absent = rung.target and (rung.target, rung.precision) not in built
        if absent or (rung.verdict == "failed" and not rung.target):
            word = "not built" if absent else rung.verdict
            reasons.setdefault((word, rung.reason), []).append(formats.clean(rung.name, 80))
    for (verdict, reason), names in reasons.items():
        yield f"{', '.join(names)}: {verdict}: {formats.clean(reason)}"
    for fact in facts:
        yield from _slow_layers(fact)
    for warning in data.bench.warnings if data.bench else ():
        yield f"note: {formats.clean(warning)}"


def _slow_layers(fact: BuildFacts) -> Iterator[str]:
    execution = fact.build.execution
    if execution is None or not execution.warnings:
        return
    layers = [layer.name for layer in execution.layers if layer.requested == "int8" and layer.executed != "int8"]
    if not layers:  # what is left out before an engine sees it is in no list of what it executed
        for warning in execution.warnings:
            yield f"note: {fact.name}: {formats.clean(warning)}"
    else:
        named = ", ".join(formats.clean(name, 60) for name in layers[:_NAMED]) + (", …" if len(layers) > _NAMED else "")
        yield f"note: {fact.name}: {formats.count(len(layers), 'layer')} asked for in int8 run in float: {named}"


# -------------------------------------------------------------------------------------------------- cells


def _verdict(fact: BuildFacts) -> Cell:
    cell = verdict_cell(fact)
    return Cell("not executed" if cell.text == "built, not executed" else cell.text, "", cell.tone)


def _accuracy(rungs: Sequence[Rung | None]) -> list[tuple[Column, list[Cell]]]:
    """The task's metric and its difference; for samples without labels the agreement with the reference instead."""
    tasks = [rung.task if rung else None for rung in rungs]
    metric = next((task.metric for task in tasks if task), "top-1").split()[0]
    columns = [
        (
            Column(formats.clean(metric, 10), "%"),
            [Cell(formats.number(task.build)) if task else Cell() for task in tasks],
        ),
        (Column("Δ", "pts"), [Cell(formats.signed(task.difference)) if task else Cell() for task in tasks]),
    ]
    return columns if any(tasks) else _agreement(rungs)


def _agreement(rungs: Sequence[Rung | None]) -> list[tuple[Column, list[Cell]]]:
    return [(Column("agree", "%"), [Cell(formats.number(rung.agreement)) if rung else Cell() for rung in rungs])]


def _drift(entry: BenchEntry) -> Cell:
    return Cell() if entry.drift is None else Cell(drift_text(entry), "", "warn" if entry.drifted else "")


def _ratio(entry: BenchEntry | None) -> Cell:
    return Cell(formats.number(entry.ratio.value)) if entry and entry.ratio else Cell()


def _tokens_per_second(times: GenerationTimes, beams: int) -> Cell:
    rates = {rate.beams: rate.tokens_per_second for rate in times.rates}
    return Cell(formats.number(rates[beams], 0)) if beams in rates else Cell()


def _number(value: float | None) -> Cell:
    return Cell(formats.number(value, 0))


def _sqnr(rung: Rung | None) -> Cell:
    return Cell(formats.decibels(rung.closeness.sqnr_db)) if rung and rung.closeness else Cell()


def _corpus(rung: Rung | None, metric: str) -> Cell:
    """A score of all translations together."""
    found = next((score for score in rung.scores if score.metric == metric), None) if rung else None
    return Cell(formats.number(found.build)) if found else Cell()


def _next_token(rung: Rung) -> Cell:
    """How often it goes on as the reference does, given the reference's own words."""
    return Cell(formats.number(rung.tokens.agreement)) if rung.tokens else Cell()


def _own_pixels(rung: Rung) -> Cell:
    """The largest difference of a build's own preprocessing to the ordinary one, in levels of eight bits."""
    return Cell() if rung.preprocessing is None else Cell(formats.number(rung.preprocessing.largest, 1))


def _divergence(closeness: Closeness | None) -> Cell:
    return Cell() if closeness is None or closeness.kl_mean is None else Cell(formats.small(closeness.kl_mean))


def _executed(fact: BuildFacts) -> Cell:
    execution = fact.build.execution
    precision = fact.entry.executed_precision if fact.entry else execution.precision if execution else ""
    precision = precision.partition(" (")[0]  # that nothing has been executed is the verdict's to say
    if not precision:
        return Cell()
    if execution and execution.quantized_executed < execution.quantized_requested:
        share = f"{execution.quantized_executed}/{execution.quantized_requested}"
        return Cell(f"{formats.clean(precision, 12)} {share}", "", "warn")
    return Cell(formats.clean(precision, 12))


def _worth(fact: BuildFacts) -> Cell:
    return _worth_it((fact.entry.verdict if fact.entry else "") or fact.build.worth)


def _worth_it(verdict: str) -> Cell:
    if not verdict:
        return Cell()
    return Cell("no", "", "warn") if verdict.startswith("not") else Cell("yes")


def _where_it_varies(values: Sequence[int]) -> list[Cell]:
    """What is the same in every line stands in the caption."""
    return [Cell(str(value)) if len(set(values)) > 1 else Cell() for value in values]


# ----------------------------------------------------------------------------------------------- captions


def _summary_caption(data: ReportData) -> str:
    parts = []
    executed = [rung for rung in data.parity.rungs if rung.verdict != "not executed"] if data.parity else []
    if data.parity and data.trained and executed:
        on = f"{formats.count(executed[0].samples, 'sample')} of {formats.clean(data.parity.set, 80)}"
        budget = f"{data.parity.budget_points:g} points"
        parts.append(
            f"Compared with the float32 reference in {data.parity.reference} on {on}; a build may lose {budget}."
        )
    if data.bench and any(entry.ratio for entry in data.bench.entries):
        parts.append("× f32: latency against the float32 build of the same target.")
    if data.calibration:
        facts = data.calibration
        classes = "" if facts.classes is None else f" ({facts.classes_seen} of {facts.classes} classes)"
        apart = "; none of them is in the evaluation set" if facts.disjoint else ""
        parts.append(f"Calibrated on {formats.count(facts.samples, 'sample')}{classes}{apart}.")
    return " ".join(parts)


def _ladder_caption(parity: ParityReport) -> str:
    if not parity.trained:
        return "An untrained model: closeness to the float reference alone, and nothing about accuracy."
    samples = max((rung.samples for rung in parity.rungs), default=0)
    budget = f"a build may lose {parity.budget_points:g} points"
    return (
        f"Against the float reference, {formats.count(samples, 'sample')} of {formats.clean(parity.set, 80)}; {budget}."
    )


def _bench_caption(bench: BenchReport) -> str:
    batches, threads = ({getattr(entry, key) for entry in bench.entries} for key in ("batch_size", "threads"))
    settings = [f"batch {next(iter(batches))}"] if len(batches) == 1 else []
    settings += [formats.count(next(iter(threads)), "thread")] if len(threads) == 1 else []
    rounds = f"{formats.duration(bench.seconds)} per build in {formats.count(bench.rounds, 'interleaved round')}"
    where = f", measured on {formats.clean(bench.device, 80)}" if bench.device else ""
    return (
        f"{', '.join([*settings, rounds])}, each build in its own process{where}. "
        "× f32: latency against the float32 build of the same target; cold: process start to first result."
        + images_caption(bench)
        + drift_caption(bench)
    )
