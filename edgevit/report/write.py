"""A report on disk: report.html, report.json, report.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevit.files import write_atomic
from edgevit.report.data import ReportData, encode_report
from edgevit.report.html import render_html
from edgevit.report.markdown import render_markdown


def write_report(data: ReportData, directory: Path, pictures: Mapping[str, bytes] | None = None) -> tuple[Path, ...]:
    """Writes the three files into an existing directory and returns their paths; each is complete or absent.

    `pictures` maps names of worst samples to PNG bytes. Nothing is written unless all three could be made. Raises
    OutputError when the directory cannot be written, and what `render_html` raises.
    """
    contents = {
        directory / "report.html": render_html(data, pictures).encode("utf-8"),
        directory / "report.json": encode_report(data),
        directory / "report.md": render_markdown(data).encode("utf-8"),
    }
    for path, content in contents.items():
        write_atomic(path, content)
    return tuple(contents)
