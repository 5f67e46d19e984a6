"""The plots that compare builds: accuracy against latency, latency distributions, sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.data import ReportData
from edgevit.report.facts import BuildFacts, build_facts, headline_entries, setting, size_ratio
from edgevit.report.svg import (
    BAD,
    INK,
    MUTED,
    PRECISION_COLOURS,
    Frame,
    Plot,
    canvas,
    figure_of,
    row_texts,
    text_width,
    to_svg,
)
from edgevit.report.thread_plot import latency_by_threads
from edgevit.types import BenchEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 360.0
"""Points: a plot fills a phone's screen at about its own size."""
_MARKERS = "osD^vPX"
_NAME = 30
"""Characters of a name that fit beside a plot."""


def plots(data: ReportData) -> tuple[Plot, ...]:
    """Every plot that the data has figures for. Raises UnavailableError where matplotlib is not installed."""
    made = (
        accuracy_against_latency(data),
        latency_distributions(data),
        latency_by_threads(data.bench),
        sizes(data),
    )
    return tuple(plot for plot in made if plot is not None)


# ---------------------------------------------------------------------------------- accuracy against latency


def accuracy_against_latency(data: ReportData) -> Plot | None:
    """Each measured build as a point with the interval of its accuracy; its agreement where there are no labels."""
    facts = [fact for fact in build_facts(data) if fact.latency and _quality(fact) is not None]
    if not data.trained or not facts:
        return None
    labelled = any(fact.rung and fact.rung.task for fact in facts)
    facts = [fact for fact in facts if fact.rung and (fact.rung.task is not None) == labelled]
    metric = next((fact.rung.task.metric for fact in facts if fact.rung and fact.rung.task), "agreement")
    metric = formats.clean(metric, _NAME)
    description = f"{metric} against median latency. " + "; ".join(
        f"{fact.name}: {formats.number(_quality(fact))} % at {formats.number(fact.latency)} ms" for fact in facts
    )
    with canvas(Frame(width=_WIDTH, plot=310, left=42, bottom=42 + 13 * math.ceil(len(facts) / 2))) as axes:
        _points(axes, facts)
        _quality_axis(axes, data, facts, labelled)
        entries = headline_entries(data.bench)
        axes.set_xlabel("latency p50, ms" + (f" at {setting(entries[0])}" if entries else ""))
        axes.set_ylabel(f"{metric}, %")
        svg = to_svg(axes, "accuracy", description)
    note = "The line through a point is the confidence interval of its accuracy; a hollow point failed its budget."
    return Plot(
        name="accuracy",
        title=f"{metric} against latency",
        description=description,
        svg=svg,
        note=note if labelled else "A hollow point failed its budget.",
    )


def _quality(fact: BuildFacts) -> float | None:
    if fact.rung is None or fact.verdict == "not executed":
        return None
    return fact.rung.task.build if fact.rung.task else fact.rung.agreement


def _points(axes: Axes, facts: list[BuildFacts]) -> None:
    """Colour is the precision, shape the target; named in a legend, since good builds lie too close to be labelled."""
    targets = list(dict.fromkeys(fact.build.target for fact in facts))
    for fact in facts:
        colour = PRECISION_COLOURS[fact.build.precision]
        latency, quality = fact.latency or 0.0, _quality(fact) or 0.0
        task = fact.rung.task if fact.rung else None
        if task is not None:
            ends = (task.reference + task.interval.low, task.reference + task.interval.high)
            axes.plot([latency] * 2, ends, color=colour, linewidth=1.2, alpha=0.55, solid_capstyle="round")
        axes.plot(
            [latency],
            [quality],
            _MARKERS[targets.index(fact.build.target) % len(_MARKERS)],
            color=colour,
            markerfacecolor="none" if fact.verdict == "failed" else colour,
            markersize=7,
            markeredgewidth=1.4,
            label=formats.shorten(fact.name, _NAME),
        )
    figure_of(axes).legend(
        loc="lower left", bbox_to_anchor=(0, 0), ncols=2, frameon=False, handlelength=1, columnspacing=2
    )


def _quality_axis(axes: Axes, data: ReportData, facts: list[BuildFacts], labelled: bool) -> None:
    """Scales that neither hide a loss nor blow up a tenth of a point, with the reference and the budget drawn in."""
    values = [value for fact in facts if (value := _quality(fact)) is not None]
    tasks = [fact.rung.task for fact in facts if fact.rung and fact.rung.task]
    values += [task.reference + end for task in tasks for end in (task.interval.low, task.interval.high)]
    if labelled and data.parity is not None:
        reference = tasks[0].reference
        floor = reference - data.parity.budget_points
        values += [reference, floor]
        _level(axes, reference, "float reference", MUTED, 3)
        _level(axes, floor, "budget", BAD, -3)
    low, high = min(values), max(values)
    margin = max(0.12 * (high - low), (1 - (high - low)) / 2, 0.1)
    axes.set_ylim(low - margin, min(high + margin, 100 + margin))
    latencies = [fact.latency for fact in facts if fact.latency]
    if max(latencies) > 12 * min(latencies):
        axes.set_xscale("log")
        axes.set_xlim(min(latencies) / 1.5, max(latencies) * 2)
    else:
        axes.set_xlim(0, max(latencies) * 1.3)


def _level(axes: Axes, value: float, text: str, colour: str, lift: float) -> None:
    axes.axhline(value, color=colour, linewidth=1, linestyle="-" if lift > 0 else (0, (4, 3)))
    axes.annotate(
        text,
        (1, value),
        xytext=(0, lift),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        va="bottom" if lift > 0 else "top",
        fontsize=7,
        color=colour,
    )


# -------------------------------------------------------------------------------------- latency and size


def latency_distributions(data: ReportData) -> Plot | None:
    """One histogram per build over a common axis, with its median and 99th percentile marked."""
    import numpy as np

    entries = [entry for entry in headline_entries(data.bench) if len(entry.latency.samples) > 1]
    if not entries:
        return None
    places = formats.places_for(entry.latency.p50 for entry in entries)
    description = f"Latency distributions at {setting(entries[0])}, milliseconds. " + "; ".join(
        f"{formats.clean(entry.name, 80)}: median {formats.number(entry.latency.p50, places)}, "
        f"p99 {formats.number(entry.latency.p99, places)}"
        for entry in entries
    )
    lowest = min(min(entry.latency.samples) for entry in entries)
    highest = max(entry.latency.p99 for entry in entries) * 1.08
    log = highest > 12 * lowest
    edges = np.geomspace(lowest * 0.95, highest, 121) if log else np.linspace(0, highest, 121)
    names = [formats.shorten(formats.clean(entry.name, 80), _NAME) for entry in entries]
    frame = Frame(width=_WIDTH, plot=30 * len(entries) + 8, left=_room(names), right=86, top=16)
    with canvas(frame) as axes:
        if log:
            axes.set_xscale("log")
        for row, entry in enumerate(entries):
            _ridge(axes, row, entry, edges.tolist())
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(len(entries) - 0.75, -1.0)
        axes.set_yticks([])
        row_texts(axes, names, -6, lift=0.3)
        row_texts(axes, ["p50, ms"], 44, 7, lift=1.15)
        row_texts(axes, ["p99, ms"], 82, 7, lift=1.15)
        row_texts(axes, [formats.number(entry.latency.p50, places) for entry in entries], 44, lift=0.3)
        row_texts(axes, [formats.number(entry.latency.p99, places) for entry in entries], 82, lift=0.3)
        axes.set_xlabel(f"latency, ms, at {setting(entries[0])}")
        svg = to_svg(axes, "latency", description)
    note = "The long tick is p50, the short one p99."
    if any(max(entry.latency.samples) > edges[-1] for entry in entries):
        note += " Samples beyond the axis are counted in its last bin."
    return Plot(name="latency", title="Latency distributions", description=description, svg=svg, note=note)


def _ridge(axes: Axes, row: int, entry: BenchEntry, edges: list[float]) -> None:
    import numpy as np

    counts, _ = np.histogram(np.clip(entry.latency.samples, edges[0], edges[-1]), bins=edges)
    heights = row - 0.72 * counts / counts.max()
    colour = PRECISION_COLOURS.get(entry.precision, MUTED)
    shown = np.flatnonzero(counts)
    first, last = int(shown[0]), int(shown[-1]) + 1
    axes.stairs(heights[first:last], edges[first : last + 1], baseline=row, fill=True, color=colour, alpha=0.75)
    axes.plot([entry.latency.p50] * 2, [row + 0.1, row - 0.78], color=INK, linewidth=1.4)
    axes.plot([entry.latency.p99] * 2, [row + 0.1, row - 0.25], color=MUTED, linewidth=1)


def sizes(data: ReportData) -> Plot | None:
    """Bytes on disk per build; a build that was not executed is drawn hollow."""
    facts = [fact for fact in build_facts(data) if fact.size]
    if not facts:
        return None
    unit = formats.size_unit([fact.size for fact in facts])
    description = "Size on disk. " + "; ".join(
        f"{fact.name}: {formats.size(fact.size, unit)} {unit.name}" for fact in facts
    )
    names = [formats.shorten(fact.name, _NAME) for fact in facts]
    with canvas(Frame(width=_WIDTH, plot=21 * len(facts), left=_room(names))) as axes:
        for row, fact in enumerate(facts):
            _size_bar(axes, row, fact, tuple(facts), unit)
        axes.set_xlim(0, 1.28 * max(fact.size for fact in facts) / unit.scale)
        axes.set_ylim(len(facts) - 0.5, -0.5)
        axes.set_yticks([])
        row_texts(axes, names, -6)
        axes.set_xlabel(f"size on disk, {unit.name}")
        svg = to_svg(axes, "size", description)
    dashed = any(fact.verdict == "not executed" and fact.entry is None for fact in facts)
    note = "× is the ratio to the float32 build." + (" Dashed: built, not executed here." if dashed else "")
    return Plot(name="size", title="Size on disk", description=description, svg=svg, note=note)


def _size_bar(axes: Axes, row: int, fact: BuildFacts, facts: tuple[BuildFacts, ...], unit: formats.SizeUnit) -> None:
    colour, length = PRECISION_COLOURS[fact.build.precision], fact.size / unit.scale
    idle = fact.verdict == "not executed" and fact.entry is None
    face, line = ("none", (0, (3, 2))) if idle else (colour, "-")
    axes.barh(row, length, height=0.58, facecolor=face, edgecolor=colour, linestyle=line)
    ratio = size_ratio(fact, facts)
    text = formats.size(fact.size, unit) + ("" if ratio is None else f" ({formats.number(ratio)} ×)")
    axes.annotate(text, (length, row), xytext=(4, 0), textcoords="offset points", va="center")


def _room(names: list[str]) -> float:
    """Points to the left of the axes that the names need."""
    return 12 + max(text_width(name, 8) for name in names)
