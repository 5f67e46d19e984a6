"""What a report says of how builds write: first and further tokens, tokens per second, memory by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.facts import headline_entries, setting
from edgevit.report.lines import Line, draw_builds, legend_below
from edgevit.report.rows import Cell, Column, Table, used
from edgevit.report.svg import Frame, Plot, canvas, to_svg

if TYPE_CHECKING:
    from edgevit.types import BenchEntry, BenchReport, GenerationTimes

_MARKED = 32
"""Tokens up to which each is a dot of its own."""


def writers(bench: BenchReport | None) -> list[tuple[BenchEntry, GenerationTimes]]:
    """The entries of builds that write, with their times."""
    return [(entry, entry.generation) for entry in (bench.entries if bench else ()) if entry.generation is not None]


def writing_table(bench: BenchReport | None) -> Table | None:
    """One row per build that writes and setting; None where none does."""
    entries = writers(bench)
    if not entries:
        return None
    times = [found for _, found in entries]
    places = formats.places_for(found.next_token.p50 for found in times)
    beams = dict.fromkeys(rate.beams for found in times for rate in found.rates)
    unit = formats.size_unit([at.resident_bytes for found in times for at in found.memory])

    def numbers(values: list[float]) -> list[Cell]:
        return [Cell(formats.number(value, places)) for value in values]

    columns = [
        (Column("build", align="left", kind="name"), [Cell(formats.clean(entry.name, 80)) for entry, _ in entries]),
        (Column("batch"), [Cell(str(entry.batch_size)) for entry, _ in entries]),
        (Column("threads"), [Cell(str(entry.threads)) for entry, _ in entries]),
        (Column("first token", "ms"), numbers([found.first_token.p50 for found in times])),
        (Column("further token", "ms"), numbers([found.next_token.p50 for found in times])),
        (Column("p99", "ms"), numbers([found.next_token.p99 for found in times])),
        (Column("last token", "ms"), numbers([found.by_place[-1] for found in times])),
        *((Column(_beams(count), "tokens/s"), [_rate(found, count) for found in times]) for count in beams),
        (Column("without cache", "tokens/s"), [_without_cache(found) for found in times]),
        (Column("memory", unit.name), [_memory(found, unit) for found in times]),
    ]
    return used("writing", writing_caption(times), columns)


def writing_caption(times: list[GenerationTimes]) -> str:
    lengths = {(found.tokens, found.source_length) for found in times}
    written = " or ".join(f"{tokens} tokens for a source of {source}" for tokens, source in sorted(lengths))
    without = " Without the cache the decoder reads all tokens again for each."
    return (
        f"Writing {written}, each source of the batch, the end token not listened to. The first token includes the "
        "encoder; a further one is of greedy search, all sources of the batch together; tokens per second are of the "
        "results, not of the beams; memory is resident at the end, and beside it after the first token."
        + (without if any(found.without_cache for found in times) else "")
    )


def time_by_place(bench: BenchReport | None) -> Plot | None:
    """One line per build: what each further token costs, by its place; None where nothing is written."""
    shown = [entry for entry in headline_entries(bench) if entry.generation]
    entries = [(entry, entry.generation.by_place[1:]) for entry in shown if entry.generation]
    if not entries:
        return None
    places = formats.places_for(times[-1] for _, times in entries)
    where = setting(entries[0][0])
    description = f"Time of each further token at {where}, milliseconds. " + "; ".join(
        f"{formats.clean(entry.name, 60)}: the second token {formats.number(times[0], places)}, "
        f"the last {formats.number(times[-1], places)}"
        for entry, times in entries
    )
    rows = (len(entries) + 1) // 2
    with canvas(Frame(width=360, plot=190, left=42, bottom=42 + 13 * rows)) as axes:
        lines = [
            Line(
                name=entry.name,
                precision=entry.precision,
                x=range(2, len(times) + 2),
                y=times,
                marker_size=2.5 if len(times) < _MARKED else 0,
            )
            for entry, times in entries
        ]
        draw_builds(axes, lines)
        axes.set_ylim(0, 1.15 * max(max(times) for _, times in entries))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("place of the token in what is written")
        axes.set_ylabel("time of one token, ms")
        legend_below(axes)
        svg = to_svg(axes, "writing", description)
    note = f"At {where}; medians. A flat line: with its cache, a late token costs what an early one does."
    return Plot(name="writing", title="Time of a further token", description=description, svg=svg, note=note)


def _beams(count: int) -> str:
    return formats.count(count, "beam")


def _rate(times: GenerationTimes, beams: int) -> Cell:
    rates = {rate.beams: rate.tokens_per_second for rate in times.rates}
    return Cell(_per_second(rates[beams])) if beams in rates else Cell()


def _without_cache(times: GenerationTimes) -> Cell:
    return Cell() if times.without_cache is None else Cell(_per_second(times.without_cache))


def _per_second(value: float) -> str:
    return formats.number(value, 0 if value >= 100 else 1)


def _memory(times: GenerationTimes, unit: formats.SizeUnit) -> Cell:
    if not times.memory:
        return Cell()
    first, last = times.memory[0], times.memory[-1]
    return Cell(formats.size(last.resident_bytes, unit), formats.size(first.resident_bytes, unit))
