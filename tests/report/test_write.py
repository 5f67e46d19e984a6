from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgevit.errors import InputError, OutputError
from edgevit.report import render_html, render_markdown, write_report
from edgevit.report.data import ReportData, read_report


@pytest.fixture
def small(data: ReportData) -> ReportData:
    return msgspec.structs.replace(data, bench=None, builds=data.builds[:1])


def test_three_files_are_written(small: ReportData, tmp_path: Path, pictures: dict[str, bytes]) -> None:
    written = write_report(small, tmp_path, pictures)
    assert [path.name for path in written] == ["report.html", "report.json", "report.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert written[0].read_text(encoding="utf-8") == render_html(small, pictures)
    assert read_report(written[1]) == small
    assert written[2].read_text(encoding="utf-8") == render_markdown(small)


def test_an_older_report_is_replaced(small: ReportData, tmp_path: Path) -> None:
    write_report(small, tmp_path)
    write_report(msgspec.structs.replace(small, model="other"), tmp_path)
    assert read_report(tmp_path / "report.json").model == "other"
    assert "other" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_bad_picture_leaves_nothing_behind(small: ReportData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected PNG bytes"):
        write_report(small, tmp_path, {"digit-0812": b"GIF89a"})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_an_output_error(small: ReportData, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError):
        write_report(small, blocked)


def test_the_tables_need_neither_matplotlib_nor_jinja2() -> None:
    code = "import sys, edgevit.report; print({'matplotlib', 'jinja2', 'torch', 'onnx'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
