"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgevit.errors import missing_package
from edgevit.report import details, formats
from edgevit.report.data import UNTRAINED, ReportData
from edgevit.report.delegation import delegation_table
from edgevit.report.layer_plot import layer_sqnr
from edgevit.report.plots import plots
from edgevit.report.rows import Table, headline, summary_table, tiles
from edgevit.report.samples import picture, score_name, worst_samples
from edgevit.report.svg import Plot
from edgevit.report.texts import accuracy_by_length, lengths_table, reads_texts, translations_table, worst_table
from edgevit.report.writing import time_by_place, writing_table

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(data: ReportData, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page. `pictures` maps the names of worst samples to PNG bytes; a sample without one is listed by name.

    The same data gives the same bytes. Raises UnavailableError without jinja2 or matplotlib, InputError for bytes that
    are no PNG.
    """
    template = environment().get_template("report.html.j2")
    return template.render(_page(data, pictures or {}))


def environment() -> Environment:
    """The templates. Raises UnavailableError without jinja2."""
    try:
        from jinja2 import DictLoader, Environment, StrictUndefined
    except ImportError as error:
        raise missing_package("jinja2", "report", "writing the report's page") from error
    # Read as package data, so that it also works from a zip archive.
    folder = files("edgevit.report") / "templates"
    names = ("report.html.j2", "report.css", "sweep.html.j2", "tables.html.j2")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    return Environment(
        loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _page(data: ReportData, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    samples = () if reads_texts(data) else worst_samples(data)
    shown = {sample.key: picture(sample.name, pictures[sample.key]) for sample in samples if sample.key in pictures}
    return {
        "model": formats.clean(data.model),
        "task": formats.clean(data.task, 80),
        "digest": formats.clean(data.digest, 128),
        "created": formats.clean(data.created, 40),
        "moment": formats.moment(data.created),
        "command": formats.clean(data.command, 4000),
        "trained": data.trained,
        "untrained": UNTRAINED,
        "warnings": [formats.clean(text, 1000) for text in _warnings(data)],
        "headline": headline(data),
        "tiles": tiles(data),
        "summary": summary_table(data) if data.builds else None,
        "plots": [_marked(plot) for plot in plots(data)],
        "length_plot": _marked(accuracy_by_length(data.parity)),
        "writing_plot": _marked(time_by_place(data.bench)),
        "layer_plot": _marked(layer_sqnr(data.parity)) if data.parity and data.parity.layers else None,
        "tables": _tables(data),
        "samples": samples,
        "score": score_name(data),
        "pictures": shown,
        "not_measured": _not_measured(data),
    }


def _tables(data: ReportData) -> dict[str, Table | None]:
    parity, bench, plan = data.parity, data.bench, data.plan
    elsewhere = bench is not None and bench.machine != data.machine
    return {
        "bench": details.bench_table(bench) if bench and bench.entries else None,
        "writing": writing_table(bench),
        "translations": translations_table(parity) if parity else None,
        "lengths": lengths_table(parity) if parity else None,
        "worst": worst_table(data) if reads_texts(data) else None,
        "ladder": details.ladder_table(parity) if parity and parity.rungs else None,
        "layers": details.layers_table(parity) if parity and parity.layers else None,
        "plan": details.plan_table(plan) if plan else None,
        "skipped": details.skipped_table(plan) if plan and plan.skipped else None,
        "calibration": details.calibration_table(data.calibration) if data.calibration else None,
        "delegation": delegation_table(data.builds),
        "files": details.files_table(data.builds) if data.builds else None,
        "stages": details.stages_table(data.stages) if data.stages else None,
        "machine": details.machine_table(data.machine),
        "bench_machine": details.machine_table(bench.machine) if bench and elsewhere else None,
    }


def _warnings(data: ReportData) -> tuple[str, ...]:
    """Every warning once: of the export, of the engines, of the measurements."""
    engines = [f"{build.name}: {text}" for build in data.builds if build.execution for text in build.execution.warnings]
    bench = data.bench.warnings if data.bench else ()
    return tuple(dict.fromkeys([*data.warnings, *engines, *bench]))


def _not_measured(data: ReportData) -> dict[str, str]:
    reasons = data.bench.not_executed if data.bench else {}
    return {formats.clean(name, 80): formats.clean(reason) for name, reason in reasons.items()}


def _marked(plot: Plot | None) -> dict[str, Any] | None:
    from markupsafe import Markup

    if plot is None:
        return None
    # Safe as it stands: matplotlib escapes every text it writes into an SVG, and so does `svg.to_svg` its label.
    return {"name": plot.name, "title": plot.title, "note": plot.note, "svg": Markup(plot.svg)}
