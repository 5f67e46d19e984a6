from __future__ import annotations

import msgspec

from edgevit.report.data import ReportData
from edgevit.report.delegation import delegation_table
from edgevit.report.html import render_html

SAID = {
    "delegated": "97.0 % of multiply-accumulates, 91.1 % of operators, in 2 partitions",
    "fell_back": "1 CONV_2D (none of its kind <b>); 2 GATHER (none)",
    "int32_inputs": "input_ids",
}


def test_a_build_that_reports_it_has_a_row(data: ReportData) -> None:
    first, second, *others = data.builds
    quiet = msgspec.structs.replace(second, options={"delegated": "100.0 %"})
    builds = (msgspec.structs.replace(first, options=SAID), quiet, *others)
    table = delegation_table(builds)
    assert table is not None
    assert [column.title for column in table.columns][1:] == [
        "delegated",
        "left to other kernels",
        "int64 given, int32 taken",
    ]
    assert [[cell.text for cell in row] for row in table.rows] == [
        [first.name, *SAID.values()],
        [second.name, "100.0 %", "–", "–"],
    ]
    html = render_html(msgspec.structs.replace(data, builds=builds))
    assert "97.0 % of multiply-accumulates" in html and "none of its kind &lt;b&gt;" in html


def test_without_one_there_is_no_such_section(data: ReportData) -> None:
    assert delegation_table(data.builds) is None
    assert 'id="delegation"' not in render_html(data)
