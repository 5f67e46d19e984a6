"""The summary as Markdown, for pasting into a README or a review."""

from __future__ import annotations

import re

from edgevit.report import formats
from edgevit.report.data import ReportData
from edgevit.report.rows import Cell, Column, Table, headline, summary_table
from edgevit.report.texts import lengths_table, reads_texts, translations_table
from edgevit.report.writing import writing_table


def render_markdown(data: ReportData) -> str:
    """A heading, the table of builds, and one line on what the figures mean; of texts the same for more tables."""
    table = summary_table(data)
    lines = [f"### {_escape(formats.clean(data.model))}: {_escape(headline(data))}", ""]
    if data.builds:
        lines += [markdown_table(table), ""]
    if table.caption:
        lines += [_escape(table.caption), ""]
    for more in _of_texts(data):
        lines += [markdown_table(more), ""]
        if more.caption:
            lines += [_escape(more.caption), ""]
    return "\n".join(lines)


def _of_texts(data: ReportData) -> list[Table]:
    """What models of texts are judged by besides: corpus scores, accuracy by length, and how fast they write."""
    if not reads_texts(data):
        return []
    judged = (translations_table(data.parity), lengths_table(data.parity)) if data.parity else ()
    found = (*judged, writing_table(data.bench))
    return [table for table in found if table is not None]


def markdown_table(table: Table) -> str:
    """A GitHub-flavoured table: units in the header, notes in brackets after their value."""
    header = [_escape(_title(column)) for column in table.columns]
    rule = ["---:" if column.align == "right" else ":---" for column in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _title(column: Column) -> str:
    return f"{column.title}, {column.unit}" if column.unit else column.title


def _cell(cell: Cell) -> str:
    return _escape(f"{cell.text} ({cell.note})" if cell.note else cell.text)


def _escape(text: str) -> str:
    # The characters with which a name could end its cell, open a tag or a link, or turn into emphasis.
    return re.sub(r"([\\`*_|<>\[\]~])", r"\\\1", text)
