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


def fitted(table: Table, width: int, *, gap: int) -> Table:
    """The table with as many of its columns as fit into `width` characters, with `gap` blanks between two columns.

    Columns named in `spare` go first, in that order; the others stay even where they are too wide.
    """
    for title in table.spare:
        if _width(table, gap) <= width:
            return table
        table = _without(table, title)
    return table


def _width(table: Table, gap: int) -> int:
    columns = list(zip(table.columns, *table.rows, strict=True))
    texts = [[column.title, column.unit, *(cell.text for cell in cells)] for column, *cells in columns]
    return sum(max(map(len, text)) for text in texts) + gap * (len(texts) - 1)


def _without(table: Table, title: str) -> Table:
    places = [place for place, column in enumerate(table.columns) if column.title != title]
    columns = tuple(table.columns[place] for place in places)
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return msgspec.structs.replace(table, columns=columns, rows=rows)
