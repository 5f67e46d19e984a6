"""Latency over the number of compute threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.lines import Line, draw_builds, legend_below
from edgevit.report.svg import Frame, Plot, canvas, to_svg

if TYPE_CHECKING:
    from edgevit.types import BenchEntry, BenchReport


def latency_by_threads(bench: BenchReport | None) -> Plot | None:
    """One line per build at the smallest batch; None where all were measured with one number of threads."""
    if bench is None or not bench.entries:
        return None
    batch = min(entry.batch_size for entry in bench.entries)
    builds: dict[str, list[BenchEntry]] = {}
    for entry in sorted(bench.entries, key=lambda entry: entry.threads):
        if entry.batch_size == batch:
            builds.setdefault(entry.name, []).append(entry)
    swept = {name: entries for name, entries in builds.items() if len({entry.threads for entry in entries}) > 1}
    if not swept:
        return None
    places = formats.places_for(entry.latency.p50 for entries in swept.values() for entry in entries)
    description = f"Median latency at batch {batch} by compute threads, milliseconds. " + "; ".join(
        f"{formats.clean(name, 60)}: "
        + ", ".join(f"{formats.number(entry.latency.p50, places)} with {entry.threads}" for entry in entries)
        for name, entries in swept.items()
    )
    counts = sorted({entry.threads for entries in swept.values() for entry in entries})
    with canvas(Frame(width=360, plot=190, left=42, bottom=42 + 13 * ((len(swept) + 1) // 2))) as axes:
        lines = [
            Line(
                name=name,
                precision=entries[0].precision,
                x=[entry.threads for entry in entries],
                y=[entry.latency.p50 for entry in entries],
                marker_size=4,
            )
            for name, entries in swept.items()
        ]
        draw_builds(axes, lines)
        axes.set_ylim(0, 1.15 * max(max(line.y) for line in lines))
        axes.set_xticks(counts)
        axes.set_xlabel("compute threads")
        axes.set_ylabel(f"latency p50 at batch {batch}, ms")
        legend_below(axes)
        svg = to_svg(axes, "threads", description)
    note = "A line that stops falling: further threads cost energy and bring nothing."
    return Plot(name="threads", title="Latency over threads", description=description, svg=svg, note=note)
