"""The report of a bundle: `ReportData` in; report.html, report.json and report.md out, and tables for the terminal.

`data` is the value; `rows` and `details` decide every column and cell; `plots` and `layer_plot` draw; `html`,
`markdown` and `table` lay the same cells out; `at_terminal` has the short
tables of the terminal. matplotlib and jinja2 are needed for the page alone.
"""

from edgevit.report import at_terminal
from edgevit.report.data import (
    CalibrationFacts,
    PlanSummary,
    ReportData,
    StageCost,
    encode_report,
    read_report,
    summarize_plan,
)
from edgevit.report.details import bench_table, ladder_table, layers_table
from edgevit.report.html import render_html
from edgevit.report.markdown import markdown_table, render_markdown
from edgevit.report.rows import headline, summary_table
from edgevit.report.table import fitted, terminal_table
from edgevit.report.write import write_report

__all__ = [
    "CalibrationFacts",
    "PlanSummary",
    "ReportData",
    "StageCost",
    "at_terminal",
    "bench_table",
    "encode_report",
    "fitted",
    "headline",
    "ladder_table",
    "layers_table",
    "markdown_table",
    "read_report",
    "render_html",
    "render_markdown",
    "summarize_plan",
    "summary_table",
    "terminal_table",
    "write_report",
]
