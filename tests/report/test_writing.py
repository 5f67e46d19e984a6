"""How builds write, in the page, the Markdown and the picture."""

from __future__ import annotations

import re

import msgspec
import pytest

from edgevit.report.data import ReportData, encode_report
from edgevit.report.html import render_html
from edgevit.report.markdown import render_markdown
from edgevit.report.writing import time_by_place, writing_table
from edgevit.types import BeamRate, GenerationTimes, Latency, MemoryAt


def latency(ms: float) -> Latency:
    return Latency(p50=ms, p90=ms, p99=2 * ms, mean=ms, samples=(ms,))


def times(ms: float, *, without: float | None = None) -> GenerationTimes:
    return GenerationTimes(
        source_length=16, tokens=4, first_token=latency(8 * ms), next_token=latency(ms),
        by_place=(8 * ms, ms, ms, 1.25 * ms), without_cache=without,
        rates=(BeamRate(beams=1, tokens_per_second=640.4), BeamRate(beams=4, tokens_per_second=22.25)),
        memory=(MemoryAt(tokens=1, resident_bytes=90_000_000), MemoryAt(tokens=4, resident_bytes=120_000_000)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(data: ReportData) -> ReportData:
    """The report of a translator whose first two builds were measured writing."""
    assert data.bench is not None
    first, second, *others = data.bench.entries
    entries = (
        msgspec.structs.replace(first, generation=times(1.5, without=7.75)),
        msgspec.structs.replace(second, generation=times(0.5)),
        *others,
    )
    bench = msgspec.structs.replace(data.bench, entries=entries)
    return msgspec.structs.replace(data, bench=bench, task="translation")


def test_a_row_holds_what_tokens_cost(written: ReportData) -> None:
    table = writing_table(written.bench)
    assert table is not None
    titles = [f"{column.title} {column.unit}".strip() for column in table.columns]
    row = dict(zip(titles, table.rows[0], strict=True))
    assert (row["first token ms"].text, row["further token ms"].text, row["p99 ms"].text) == (
        "12.000",
        "1.500",
        "3.000",
    )
    assert row["last token ms"].text == "1.875"
    assert (row["1 beam tokens/s"].text, row["4 beams tokens/s"].text) == ("640", "22.2")
    assert (row["memory MB"].text, row["memory MB"].note) == ("120.0", "90.0")
    assert [line[titles.index("without cache tokens/s")].text for line in table.rows] == ["7.8", "–"]
    assert "4 tokens for a source of 16" in table.caption


def test_the_picture_shows_each_further_token_of_each_build(written: ReportData) -> None:
    plot = time_by_place(written.bench)
    assert plot is not None
    assert written.bench is not None
    for entry in written.bench.entries[:2]:
        assert f">{entry.name}<" in plot.svg
        assert entry.name in plot.description
    assert "the second token 1.500, the last 1.875" in plot.description
    assert ">time of one token, ms<" in plot.svg
    # Two lines of three further tokens: the first, which includes the encoder, is not among them.
    texts = re.findall(r">([^<]*)</text>", plot.svg)
    assert texts[: texts.index("place of the token in what is written")] == ["2", "3", "4"]
    assert not re.search(r"(?<!, )#[0-9a-f]{6}\b", plot.svg)


def test_page_markdown_and_json_hold_it(written: ReportData) -> None:
    page, markdown = render_html(written), render_markdown(written)
    assert "<h2>Writing, token by token</h2>" in page
    assert "Time of a further token" in page
    assert "| 12.000 | 1.500 |" in markdown
    assert "further token, ms" in markdown
    assert msgspec.json.decode(encode_report(written), type=ReportData) == written


def test_where_nothing_is_written_nothing_is_said_of_it(data: ReportData) -> None:
    assert writing_table(data.bench) is None and time_by_place(data.bench) is None
    assert writing_table(None) is None and time_by_place(None) is None
    assert "Writing, token by token" not in render_html(data)
