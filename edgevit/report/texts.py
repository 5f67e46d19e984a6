"""What a report says of models of texts beyond labels: corpus scores, accuracy by length, the worst texts as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.data import ReportData, without_accuracy
from edgevit.report.lines import Line, draw_builds, legend_below
from edgevit.report.rows import Cell, Column, Table, used
from edgevit.report.samples import worst_samples
from edgevit.report.svg import INK, Frame, Plot, canvas, to_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from edgevit.types import LengthBin, ParityReport, Rung

TEXT_TASKS = ("text-classification", "text-features", "token-classification", "translation", "summarization")
_WORST = 12
_LONG = 160
"""Characters of a text that a table shows."""


def reads_texts(data: ReportData) -> bool:
    return data.task in TEXT_TASKS


def translations_table(parity: ParityReport) -> Table | None:
    """Corpus scores of every rung, and how it goes on with the reference's own words; None where nothing is written."""
    rungs = [rung for rung in _shown(parity).rungs if rung.scores or rung.tokens]
    if not rungs:
        return None
    metrics = list(dict.fromkeys(score.metric for rung in rungs for score in rung.scores))
    columns = [
        (Column("compared", align="left", kind="name"), [Cell(formats.clean(rung.name, 80)) for rung in rungs]),
        *((Column(metric), [_score(rung, metric) for rung in rungs]) for metric in metrics),
        (Column("next token", "%"), [_next_token(rung) for rung in rungs]),
    ]
    first = rungs[0].scores
    reference = ", ".join(f"{score.metric} {formats.number(score.reference)}" for score in first)
    caption = "Next token: given what the reference wrote so far, how often the build goes on as it does."
    if first:
        level = formats.level(first[0].interval)
        caption = (
            f"The float reference has {reference}; in brackets the difference to it and its {level} interval, by "
            f"drawing texts with replacement. {caption}"
        )
    return used("translations", caption, columns)


def _score(rung: Rung, metric: str) -> Cell:
    score = next((score for score in rung.scores if score.metric == metric), None)
    if score is None:
        return Cell()
    note = f"{formats.signed(score.difference)} {formats.interval(score.interval, signs=True)}"
    return Cell(formats.number(score.build), note)


def _next_token(rung: Rung) -> Cell:
    if rung.tokens is None:
        return Cell()
    return Cell(formats.number(rung.tokens.agreement), f"of {formats.count(rung.tokens.tokens, 'token')}")


def lengths_table(parity: ParityReport) -> Table | None:
    """One row per bin of lengths: the reference's accuracy and each rung's; without labels, agreement."""
    rungs = [rung for rung in _shown(parity).rungs if rung.lengths]
    if not rungs:
        return None
    bins = rungs[0].lengths
    labelled = rungs[0].labelled
    columns = [
        (Column("tokens read", align="left"), [Cell(f"{one.low} to {one.high}") for one in bins]),
        (Column("answers"), [Cell(formats.number(one.answers, 0)) for one in bins]),
        (Column("reference", "%"), [Cell(formats.number(one.reference)) for one in bins]),
        *((Column(formats.clean(rung.name, 40), "%"), _bins(rung, bins)) for rung in rungs),
    ]
    metric = next((rung.task.metric for rung in rungs if rung.task), "agreement with the reference")
    what = formats.clean(metric) if labelled else "agreement with the reference"
    return used("lengths", f"Percent {what}, by how many tokens the text has.", columns)


def _bins(rung: Rung, bins: Sequence[LengthBin]) -> list[Cell]:
    """A rung that stopped early has not seen every length."""
    found = {one.low: one for one in rung.lengths}
    return [Cell(formats.number(_percent(found[one.low]))) if one.low in found else Cell() for one in bins]


def _percent(one: LengthBin) -> float:
    return one.agreement if one.build is None else one.build


def worst_table(data: ReportData) -> Table | None:
    """The worst texts: source, truth, what the reference says, and what each build that lists it says."""
    rows: list[tuple[Cell, ...]] = []
    for sample in worst_samples(data, _WORST, _LONG):
        for place, opinion in enumerate(sample.opinions):
            first = place == 0
            rows.append(
                (
                    Cell(sample.name if first else ""),
                    Cell((sample.truth if first else "") or formats.NOTHING),
                    Cell((sample.reference if first else "") or formats.NOTHING),
                    Cell(opinion.build),
                    Cell(opinion.label or formats.NOTHING, "", "bad" if opinion.differs else ""),
                    Cell(opinion.score),
                )
            )
    if not rows:
        return None
    names = ("text", "truth", "reference", "compared", "it says")
    columns = tuple(Column(name, align="left") for name in names)
    return Table(name="worst texts", columns=(*columns, Column("KL", "nats")), rows=tuple(rows))


def accuracy_by_length(parity: ParityReport | None) -> Plot | None:
    """One line per rung over the bins of lengths, the reference's under them; None for fewer than two bins."""
    if parity is None:
        return None
    rungs = [rung for rung in _shown(parity).rungs if rung.lengths]
    if not rungs:
        return None
    labelled = rungs[0].labelled
    metric = next((rung.task.metric for rung in rungs if rung.task), "") if labelled else "agreement"
    metric = formats.clean(metric, 30)
    description = f"{metric} by the number of tokens read. " + "; ".join(
        f"{formats.clean(rung.name, 60)}: "
        + ", ".join(f"{formats.number(_percent(one), 1)} % at {one.low} to {one.high}" for one in rung.lengths)
        for rung in rungs
    )
    rows = (len(rungs) + 2) // 2
    with canvas(Frame(width=360, plot=230, left=42, bottom=42 + 13 * rows)) as axes:
        _lines(axes, rungs, labelled)
        axes.set_xlabel("tokens of the text")
        axes.set_ylabel(f"{metric}, %")
        legend_below(axes)
        svg = to_svg(axes, "lengths", description)
    note = (
        "Each point is a bin; the table below has the numbers." if labelled else "Agreement with the float reference."
    )
    return Plot(name="lengths", title=f"{metric} by length", description=description, svg=svg, note=note)


def _lines(axes: Axes, rungs: Sequence[Rung], labelled: bool) -> None:
    bins = rungs[0].lengths
    values = [_percent(one) for rung in rungs for one in rung.lengths]
    if labelled:
        known = [(one, one.reference) for one in bins if one.reference is not None]
        values += [value for _, value in known]
        axes.plot(
            [(one.low + one.high) / 2 for one, _ in known],
            [value for _, value in known],
            "o-",
            color=INK,
            linewidth=2.4,
            markersize=4,
            alpha=0.55,
            label="reference",
        )
    draw_builds(
        axes,
        [
            Line(
                name=rung.name,
                precision=rung.precision,
                x=[(one.low + one.high) / 2 for one in rung.lengths],
                y=[_percent(one) for one in rung.lengths],
                marker_size=3,
            )
            for rung in rungs
        ],
    )
    axes.set_xticks([(one.low + one.high) / 2 for one in bins], [f"{one.low}–{one.high}" for one in bins])
    room = max(2.0, 0.06 * (max(values) - min(values)))
    axes.set_ylim(max(0.0, min(values) - room), min(100.0 + room, max(values) + room))


def _shown(parity: ParityReport) -> ParityReport:
    return parity if parity.trained else without_accuracy(parity)
