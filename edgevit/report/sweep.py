"""What a sweep came to: a line for each recipe and build, and a page that leads to every bundle's own report."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING

import msgspec

from edgevit.files import write_atomic
from edgevit.report import formats
from edgevit.report.html import environment
from edgevit.report.rows import VERDICT_TONES, Cell, Column, Table, used
from edgevit.types import Spread, SweepCell, SweepLine, SweepReport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMES = (Column("recipe", align="left", kind="name"), Column("build", align="left", kind="name"))


def sweep_lines(cells: Sequence[SweepCell]) -> tuple[SweepLine, ...]:
    """One line per recipe and build, in the order they come in."""
    groups: dict[tuple[str, str], list[SweepCell]] = {}
    for cell in cells:
        groups.setdefault((cell.recipe, cell.build), []).append(cell)
    return tuple(_line(recipe, build, group) for (recipe, build), group in groups.items())


def _line(recipe: str, build: str, cells: Sequence[SweepCell]) -> SweepLine:
    done = [cell for cell in cells if cell.state != "failed"]
    rungs = [cell.rung for cell in done if cell.rung is not None]
    tasks = [rung.task for rung in rungs if rung.task is not None]
    return SweepLine(
        recipe=recipe,
        build=build,
        bundles=len(done),
        wanted=len(cells),
        passed=sum(rung.verdict == "passed" for rung in rungs),
        metric=tasks[0].metric if tasks else "",
        accuracy=_spread([task.build for task in tasks]),
        difference=_spread([task.difference for task in tasks]),
        agreement=_spread([rung.agreement for rung in rungs if rung.agreement is not None]),
        sqnr_db=_spread([rung.closeness.sqnr_db for rung in rungs if rung.closeness is not None]),
        size=_spread([float(cell.size) for cell in done]),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    deviation = stdev(values) if len(values) > 1 else None
    return Spread(mean=mean(values), least=min(values), most=max(values), deviation=deviation)


# ------------------------------------------------------------------------------------------------- tables


def lines_table(report: SweepReport) -> Table:
    """One line per recipe and build: mean ± standard deviation over its seeds."""
    lines = report.lines
    unit = formats.size_unit([line.size.mean for line in lines if line.size])
    metric = next((line.metric for line in lines if line.metric), "accuracy").removesuffix(" accuracy")
    columns = [
        (_NAMES[0], [Cell(formats.clean(line.recipe, 80)) for line in lines]),
        (_NAMES[1], [Cell(formats.clean(line.build, 80)) for line in lines]),
        (Column("made"), [_share(line.bundles, line.wanted) for line in lines]),
        (Column("passed"), [_share(line.passed, line.bundles) for line in lines]),
        (Column(metric, "%"), [_shown(line.accuracy, 2) for line in lines]),
        (Column("Δ", "pts"), [_shown(line.difference, 2, signs=True) for line in lines]),
        (Column("worst Δ", "pts"), [_least(line.difference) for line in lines]),
        (Column("agree", "%"), [_shown(line.agreement, 2) for line in lines]),
        (Column("SQNR", "dB"), [_shown(line.sqnr_db, 1) for line in lines]),
        (Column("size", unit.name), [Cell() if not line.size else Cell(_size(line.size, unit)) for line in lines]),
    ]
    return used("sweep", _caption(report), columns, spare=("worst Δ", "agree", "made", "SQNR"))


def cells_table(report: SweepReport) -> Table:
    """One line per bundle."""
    cells = report.cells
    rungs = [cell.rung for cell in cells]
    columns = [
        (Column("bundle", align="left", kind="name"), [Cell(formats.clean(cell.name, 200)) for cell in cells]),
        (Column("verdict", align="left", kind="verdict"), [_verdict(cell) for cell in cells]),
        (
            Column("accuracy", "%"),
            [Cell(formats.number(rung.task.build)) if rung and rung.task else Cell() for rung in rungs],
        ),
        (
            Column("Δ", "pts"),
            [Cell(formats.signed(rung.task.difference)) if rung and rung.task else Cell() for rung in rungs],
        ),
        (
            Column("SQNR", "dB"),
            [Cell(formats.decibels(rung.closeness.sqnr_db)) if rung and rung.closeness else Cell() for rung in rungs],
        ),
        (Column("size"), [Cell(formats.size(cell.size)) if cell.size else Cell() for cell in cells]),
    ]
    return used("bundles", "", columns)


def _verdict(cell: SweepCell) -> Cell:
    if cell.error:
        return Cell("failed", formats.clean(cell.error, 1000), "bad")
    if cell.out_of_budget:
        return Cell("out of budget", ", ".join(cell.out_of_budget), "bad")
    verdict = cell.rung.verdict if cell.rung else "not executed"
    return Cell(verdict, "", VERDICT_TONES[verdict])


def _share(part: int, whole: int) -> Cell:
    return Cell(f"{part} of {whole}", "", "" if part == whole else "bad")


def _shown(spread: Spread | None, places: int, *, signs: bool = False) -> Cell:
    if spread is None:
        return Cell()
    if spread.most >= formats.NO_ERROR_DB and not signs:
        return Cell(formats.decibels(spread.most))
    text = (formats.signed if signs else formats.number)(spread.mean, places)
    return Cell(text if spread.deviation is None else f"{text} ± {formats.number(spread.deviation, places)}")


def _least(spread: Spread | None) -> Cell:
    return Cell() if spread is None or spread.deviation is None else Cell(formats.signed(spread.least))


def _size(spread: Spread, unit: formats.SizeUnit) -> str:
    return formats.size(spread.mean, unit)


def _caption(report: SweepReport) -> str:
    seeds = dict.fromkeys(cell.seed for cell in report.cells if cell.seed is not None)
    over = f"over {formats.count(len(seeds), 'seed')} of calibration samples" if seeds else "of one bundle each"
    return f"Mean ± standard deviation {over}; builds that are not calibrated are made once."


# --------------------------------------------------------------------------------------------------- page


def write_sweep(report: SweepReport, root: Path) -> None:
    """sweep.html and sweep.json in the sweep's directory. Raises OutputError; UnavailableError without jinja2."""
    template = environment().get_template("sweep.html.j2")
    reports = [cell.name for cell in report.cells if cell.state != "failed"]
    page = template.render(lines=lines_table(report), cells=cells_table(report), reports=reports)
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / "sweep.html", page.encode("utf-8"))
    write_atomic(root / "sweep.json", msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
