"""The short tables: everything that matters, one line per build, within 80 columns."""

from __future__ import annotations

import io

import msgspec
import pytest

from edgevit.progress import Silent
from edgevit.report import at_terminal, bench_table, fitted
from edgevit.report.data import ReportData
from edgevit.report.rows import Cell, Column, Table
from edgevit.terminal import Terminal
from edgevit.types import BeamRate, BenchReport, Conditions, Execution, GenerationTimes, Latency, MemoryAt, Reading


def printed(table: Table, monkeypatch: pytest.MonkeyPatch, width: int = 80) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    Terminal(out, Silent(), json=False)._table(table)
    return out.getvalue().splitlines()


def titles(table: Table) -> list[str]:
    return [" ".join(filter(None, (column.title, column.unit))) for column in table.columns]


def cells(table: Table, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if row[0].text == name)
    return dict(zip(titles(table), (cell.text for cell in row), strict=True))


def test_the_summary_has_one_line_per_build_in_80_columns(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    table = at_terminal.summary(data)
    assert titles(table) == [
        "build", "verdict", "size MB", "p50 ms", "× f32", "top-1 %", "Δ pts", "SQNR dB", "runs in", "worth it",
    ]  # fmt: skip
    lines = printed(table, monkeypatch)
    assert max(map(len, lines)) <= 80
    for build in data.builds:
        (line,) = (line for line in lines if line.startswith(f"{build.name} "))
        assert line.split()[1] in ("passed", "failed", "inconclusive", "not")
    shown = cells(table, "openvino-int8")
    assert float(shown["× f32"]) < 1 and shown["worth it"] == "yes" and shown["runs in"] == "int8"
    assert not any(cell.note for row in table.rows for cell in row)


def test_what_is_compiled_and_not_executed_has_its_precision_whole(data: ReportData) -> None:
    first, *others = data.builds
    compiled = Execution(precision="bfloat16 (compiled)", provider="compiled, not executed", instruction_set="")
    first = msgspec.structs.replace(first, target="tensorrt-rtx", precision="bfloat16", execution=compiled)
    table = at_terminal.summary(msgspec.structs.replace(data, builds=(first, *others)))
    assert cells(table, "tensorrt-rtx-bfloat16")["runs in"] == "bfloat16"


def test_a_long_name_costs_the_least_useful_columns_first(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = data.builds
    longer = msgspec.structs.replace(
        data, builds=(msgspec.structs.replace(first, target="executorch-xnnpack"), *others)
    )
    lines = printed(at_terminal.summary(longer), monkeypatch)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("executorch-xnnpack-float32") for line in lines)
    header = " ".join(lines[:3])
    assert "SQNR" not in header and "verdict" in header and "p50" in header


def test_the_untrained_show_no_accuracy(untrained: ReportData) -> None:
    table = at_terminal.summary(untrained)
    assert not {"top-1 %", "Δ pts", "agree %", "SQNR dB"} & set(titles(table))
    assert untrained.parity is not None
    assert not {"top-1 %", "Δ pts", "agree %", "lost"} & set(titles(at_terminal.ladder(untrained.parity)))


def test_without_labels_agreement_stands_where_accuracy_would(data: ReportData) -> None:
    assert data.parity is not None
    rungs = tuple(msgspec.structs.replace(rung, task=None, labelled=False) for rung in data.parity.rungs)
    unlabelled = msgspec.structs.replace(data, parity=msgspec.structs.replace(data.parity, rungs=rungs))
    assert "agree %" in titles(at_terminal.summary(unlabelled))
    assert titles(at_terminal.ladder(unlabelled.parity)).count("agree %") == 1  # type: ignore[arg-type]


def test_the_ladder_and_the_measurements_fit(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.parity is not None and data.bench is not None
    ladder = printed(at_terminal.ladder(data.parity), monkeypatch)
    assert max(map(len, ladder)) <= 80
    for rung in data.parity.rungs:
        assert any(line.startswith(rung.name) for line in ladder)
    bench = at_terminal.measurements(data.bench)
    assert max(map(len, printed(bench, monkeypatch))) <= 80
    # Batches differ and stand in the rows; threads do not and stand in the caption.
    assert "batch" in titles(bench) and "threads" not in titles(bench) and "2 threads" in bench.caption


def test_remarks_say_why_of_everything_that_did_not_pass(data: ReportData) -> None:
    remarks = list(at_terminal.remarks(data))
    for build in data.builds:
        named = [line for line in remarks if build.name in line.partition(":")[0]]
        verdict = next((rung.verdict for rung in data.parity.rungs if rung.name == build.name), build.verdict)  # type: ignore[union-attr]
        assert bool(named) == (verdict != "passed"), build.name


def test_builds_that_share_a_reason_share_a_line(data: ReportData) -> None:
    assert data.parity is not None
    reason = "too few samples for the budget"
    rungs = tuple(
        msgspec.structs.replace(rung, verdict="inconclusive", reason=reason, task=None) for rung in data.parity.rungs
    )
    few = msgspec.structs.replace(data, parity=msgspec.structs.replace(data.parity, rungs=rungs))
    (line,) = (line for line in at_terminal.remarks(few) if reason in line)
    assert all(build.name in line for build in data.builds if build.verdict != "not executed")


def test_layers_that_run_slower_than_asked_are_counted_and_named(data: ReportData) -> None:
    slow = [line for line in at_terminal.remarks(data) if "asked for in int8 run in float" in line]
    executed = [build.execution for build in data.builds if build.execution and build.execution.warnings]
    assert len(slow) == len(executed)


def test_layers_that_no_list_of_what_ran_can_name_are_told_with_their_reason(data: ReportData) -> None:
    """What a target leaves out is not among the layers its engine executed: the note used to count "0 layers"."""
    replace = msgspec.structs.replace
    build = next(build for build in data.builds if build.execution)
    execution = replace(build.execution, layers=(), warnings=("patch_embed was asked for in int8, no kernel",))
    told = replace(data, builds=(replace(build, execution=execution),))
    notes = [line for line in at_terminal.remarks(told) if line.startswith(f"note: {build.name}")]
    assert notes == [f"note: {build.name}: patch_embed was asked for in int8, no kernel"]


def test_fitted_leaves_alone_what_fits_and_what_may_not_go() -> None:
    columns = (Column("name", align="left"), Column("a"), Column("b"))
    table = Table(name="t", columns=columns, rows=((Cell("x" * 20), Cell("1" * 10), Cell("2" * 10)),), spare=("b",))
    assert fitted(table, 42, gap=1) == table
    assert [column.title for column in fitted(table, 41, gap=1).columns] == ["name", "a"]
    assert [column.title for column in fitted(table, 5, gap=1).columns] == ["name", "a"]


def test_what_writes_has_a_table_of_its_tokens(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.bench is not None
    short, long = (Latency(p50=ms, p90=ms, p99=ms, mean=ms, samples=(ms,)) for ms in (1.5, 12.25))
    times = GenerationTimes(
        source_length=16, tokens=32, first_token=long, next_token=short, by_place=(12.25, 1.5, 1.75),
        without_cache=50.2,
        rates=(BeamRate(beams=1, tokens_per_second=640.4), BeamRate(beams=4, tokens_per_second=222.0)),
        memory=(MemoryAt(tokens=1, resident_bytes=90_000_000), MemoryAt(tokens=32, resident_bytes=120_000_000)),
    )  # fmt: skip
    one, *others = data.bench.entries
    report = msgspec.structs.replace(data.bench, entries=(msgspec.structs.replace(one, generation=times), *others))
    table = at_terminal.writing(report)
    assert [row[0].text for row in table.rows] == [one.name]
    shown = cells(table, one.name)
    assert (shown["first ms"], shown["next ms"], shown["last ms"]) == ("12.25", "1.50", "1.75")
    assert (shown["beams 1 tok/s"], shown["beams 4 tok/s"], shown["memory MB"]) == ("640", "222", "120.0")
    assert shown["no cache tok/s"] == "50"
    assert "32 tokens for a source of 16" in table.caption
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", "80")
    Terminal(out, Silent(), json=False).bench(report, None)
    assert "12.25" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def drifting(data: ReportData, drift: float, noise: float) -> BenchReport:
    assert data.bench is not None
    first, *others = data.bench.entries
    first = msgspec.structs.replace(
        first,
        drift=drift,
        drift_noise=noise,
        conditions=Conditions(first=Reading(temperature_c=51.2), last=Reading(temperature_c=84.0)),
    )
    return msgspec.structs.replace(data.bench, entries=(first, *others), device="pi@kitchen")


def test_drift_beyond_the_noise_is_marked(data: ReportData) -> None:
    bench = drifting(data, 0.124, 0.02)
    table = at_terminal.measurements(bench)
    assert table.rows[0][titles(table).index("drift %")] == Cell("+12 !", "", "warn")
    assert "measured on pi@kitchen" in table.caption and "! where it is more than they scatter" in table.caption
    whole = bench_table(bench)
    assert whole.rows[0][titles(whole).index("drift %")] == Cell("+12 !", "51 → 84 °C", "warn")
    quiet = at_terminal.measurements(drifting(data, -0.011, 0.02))
    assert quiet.rows[0][titles(quiet).index("drift %")] == Cell("-1")


def test_without_drift_nothing_is_said_of_it(data: ReportData) -> None:
    assert data.bench is not None
    table = at_terminal.measurements(data.bench)
    assert "drift %" not in titles(table) and "drift" not in table.caption and "measured on" not in table.caption
