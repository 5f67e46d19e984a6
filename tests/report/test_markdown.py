from __future__ import annotations

import re

import msgspec

from edgevit.report.data import ReportData
from edgevit.report.markdown import markdown_table, render_markdown
from edgevit.report.rows import summary_table


def cells(line: str) -> list[str]:
    assert line.startswith("| ") and line.endswith(" |")
    return re.split(r"(?<!\\) \| ", line[2:-2])


def test_the_table_is_well_formed(data: ReportData) -> None:
    table = summary_table(data)
    lines = markdown_table(table).splitlines()
    assert len(lines) == len(data.builds) + 2
    assert {len(cells(line)) for line in lines} == {len(table.columns)}
    assert set(cells(lines[1])) == {":---", "---:"}
    assert cells(lines[0])[:4] == ["build", "verdict", "size, MB", "latency p50, ms"]


def test_it_says_what_the_page_says(data: ReportData) -> None:
    text = render_markdown(data)
    assert text.startswith("### zoo:digits-vit: 7 builds · 4 passed")
    row = next(line for line in text.splitlines() if line.startswith("| openvino-int8 "))
    assert "passed (0.42 points lost at worst, 0.5 allowed)" in row
    assert r"97.08 (−0.14 \[−0.42, +0.14\])" in row
    assert "| built, not executed (no NVIDIA driver on this machine) |" in text
    assert text.endswith("at 95 % confidence.\n")


def test_an_untrained_model_has_no_accuracy(untrained: ReportData) -> None:
    text = render_markdown(untrained)
    assert "untrained: speed and size only" in text
    assert not any(word in text for word in ("top-1", "agreement", "SQNR", "points", "97.2"))


def test_hostile_names_cannot_leave_their_cell(data: ReportData) -> None:
    name = "a|b\n| c | `d` <img src=x> [e](f) *g* \\|"
    hostile = msgspec.structs.replace(data, model=name, builds=(msgspec.structs.replace(data.builds[0], target=name),))
    lines = markdown_table(summary_table(hostile)).splitlines()
    assert len(lines) == 3
    assert len(cells(lines[0])) == len(cells(lines[2]))
    assert "<img" not in lines[2].replace("\\<", "") and "`d`" not in lines[2]
    assert len(render_markdown(hostile).splitlines()[0]) > len(name)


def test_a_report_without_builds_has_no_table(data: ReportData) -> None:
    assert "|" not in render_markdown(msgspec.structs.replace(data, builds=(), parity=None, bench=None))
