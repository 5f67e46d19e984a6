from __future__ import annotations

import io

from edgevit.report.data import ReportData
from edgevit.report.rows import Cell, Column, Table, summary_table
from edgevit.report.table import terminal_table


def test_the_terminal_shows_the_cells_of_the_page(data: ReportData) -> None:
    table = summary_table(data)
    shown = terminal_table(table)
    assert [column.header.split("\n")[0] for column in shown.columns] == [column.title for column in table.columns]
    assert [[cell.text.split("\n")[0] for cell in row] for row in shown.rows] == [
        [cell.text for cell in row] for row in table.rows
    ]
    assert [column.justify for column in shown.columns] == [column.align for column in table.columns]
    assert shown.caption == table.caption


def test_verdicts_differ_in_style(data: ReportData) -> None:
    styles = {row[1].text.split("\n")[0]: row[1].style for row in terminal_table(summary_table(data)).rows}
    assert len(set(styles.values())) == 4
    assert styles["built, not executed"] != styles["passed"]


def test_rich_can_lay_it_out_without_reading_names_as_markup() -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = Table(name="t", columns=(Column("build", align="left"),), rows=((Cell("[red]x[/nope]", "note"),),))
    shown = terminal_table(table)
    rich = RichTable()
    for column in shown.columns:
        rich.add_column(column.header, justify=column.justify)
    for row in shown.rows:
        rich.add_row(*(Text(cell.text, style=cell.style) for cell in row))
    out = io.StringIO()
    Console(file=out, width=80).print(rich)
    assert "[red]x[/nope]" in out.getvalue() and "note" in out.getvalue()
