"""A table as plain text cells for the terminal; the command line hands them to rich."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgevit.report.rows import Table, Tone


class TerminalColumn(msgspec.Struct, frozen=True):
    header: str
    justify: Literal["left", "right"]


class TerminalCell(msgspec.Struct, frozen=True):
    """`text` may hold two lines and is no markup: hand it to `rich.text.Text`, not to a markup string."""

    text: str
    style: str


class TerminalTable(msgspec.Struct, frozen=True, kw_only=True):
    caption: str
    columns: tuple[TerminalColumn, ...]
    rows: tuple[tuple[TerminalCell, ...], ...]


_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "bold red", "warn": "yellow", "idle": "dim"}


def terminal_table(table: Table) -> TerminalTable:
    """The same columns and cells, units under the titles and notes under their values."""
    columns = tuple(
        TerminalColumn("\n".join(filter(None, (column.title, column.unit))), column.align) for column in table.columns
    )
    rows = tuple(
        tuple(TerminalCell("\n".join(filter(None, (cell.text, cell.note))), _STYLES[cell.tone]) for cell in row)
        for row in table.rows
    )
    return TerminalTable(caption=table.caption, columns=columns, rows=rows)
