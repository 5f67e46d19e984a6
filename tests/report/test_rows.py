from __future__ import annotations

import msgspec
import pytest

from edgevit.report.data import ReportData
from edgevit.report.details import (
    bench_table,
    calibration_table,
    files_table,
    ladder_table,
    layers_table,
    plan_table,
    skipped_table,
    stages_table,
)
from edgevit.report.facts import best, build_facts, headline_entries
from edgevit.report.rows import Cell, Table, headline, summary_table, tiles


def titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def cell(table: Table, row: str, title: str) -> Cell:
    found = next(cells for cells in table.rows if cells[0].text == row)
    return found[titles(table).index(title)]


def text(table: Table) -> str:
    return " ".join(f"{cell.text} {cell.note}" for row in table.rows for cell in row)


def test_every_build_has_its_row_in_the_order_of_the_bundle(data: ReportData) -> None:
    assert [row[0].text for row in summary_table(data).rows] == [build.name for build in data.builds]


def test_the_summary_says_what_was_measured(data: ReportData) -> None:
    table = summary_table(data)
    assert cell(table, "openvino-int8", "size") == Cell("0.81", "0.30 ×")
    assert cell(table, "openvino-int8", "top-1") == Cell("97.08", "−0.14 [−0.42, +0.14]")
    assert cell(table, "openvino-int8", "agreement") == Cell("99.44", "2 lost, 1 gained")
    assert cell(table, "openvino-int8", "SQNR").text == "31.2"
    assert cell(table, "openvino-int8", "executed") == Cell("int8", "50 of 50 layers")
    assert cell(table, "onnxruntime-int8", "executed") == Cell("int8", "49 of 50 layers", "warn")
    assert cell(table, "openvino-int8", "latency p50").note.startswith("0.57 × [0.56, 0.59]")
    assert cell(table, "openvino-int8", "worth it").text == "worth it"
    assert cell(table, "openvino-bfloat16", "worth it").text == "not worth it"
    assert "97.22 % top-1) on 360 samples of digits-evaluation" in table.caption
    assert "95 % confidence" in table.caption


@pytest.mark.parametrize(
    ("build", "word", "tone", "reason"),
    [
        ("openvino-int8", "passed", "good", "0.42 points lost at worst, 0.5 allowed"),
        ("onnxruntime-int8w", "failed", "bad", "1.26 points lost at best, 0.5 allowed"),
        (
            "onnxruntime-int8",
            "inconclusive",
            "warn",
            "0.56 points lost at worst, 0.5 allowed; 1\u202f450 samples would decide",
        ),
        ("tensorrt-rtx-int8", "built, not executed", "idle", "no NVIDIA driver on this machine"),
    ],
)
def test_each_verdict_has_its_word_and_its_reason(
    data: ReportData, build: str, word: str, tone: str, reason: str
) -> None:
    assert cell(summary_table(data), build, "verdict") == Cell(word, reason, tone)


def test_a_build_that_was_not_executed_shows_no_figures(data: ReportData) -> None:
    row = next(row for row in summary_table(data).rows if row[0].text == "tensorrt-rtx-int8")
    assert [cell.text for cell in row[3:]] == ["–"] * 6


def test_a_verdict_that_rests_on_something_else_keeps_its_own_reason(data: ReportData) -> None:
    assert data.parity is not None
    broken = "3 of 360 samples have NaN or infinite outputs"
    rungs = tuple(
        msgspec.structs.replace(rung, verdict="failed", reason=broken) if rung.name == "openvino-int8" else rung
        for rung in data.parity.rungs
    )
    parity = msgspec.structs.replace(data.parity, rungs=rungs)
    table = summary_table(msgspec.structs.replace(data, parity=parity))
    assert cell(table, "openvino-int8", "verdict") == Cell("failed", broken, "bad")
    assert cell(ladder_table(parity), "openvino-int8", "verdict") == Cell("failed", broken, "bad")


def test_without_a_benchmark_the_builds_own_latency_stands_in(data: ReportData) -> None:
    bare = msgspec.structs.replace(data, bench=None)
    assert "latency p50" not in titles(summary_table(bare))
    first = msgspec.structs.replace(data.builds[0], latency_ms=0.5, worth="worth it")
    known = msgspec.structs.replace(bare, builds=(first, *data.builds[1:]))
    assert cell(summary_table(known), "openvino-float32", "latency p50").text == "0.500"
    assert cell(summary_table(known), "openvino-float32", "worth it").text == "worth it"


def test_without_parity_the_builds_own_verdict_stands_in(data: ReportData) -> None:
    bare = msgspec.structs.replace(data, parity=None)
    table = summary_table(bare)
    assert not {"top-1", "agreement", "SQNR"} & set(titles(table))
    assert cell(table, "onnxruntime-int8w", "verdict").text == "failed"
    assert "reference" not in table.caption


def test_a_build_that_ran_but_was_never_compared_is_not_called_unexecuted(data: ReportData) -> None:
    builds = tuple(msgspec.structs.replace(build, verdict="not executed", reason="") for build in data.builds)
    table = summary_table(msgspec.structs.replace(data, parity=None, builds=builds))
    assert cell(table, "openvino-int8", "verdict").text == "not compared"
    assert cell(table, "tensorrt-rtx-int8", "verdict").text == "built, not executed"


def test_the_measurements_own_reason_is_used_when_there_is_no_other(data: ReportData) -> None:
    builds = tuple(msgspec.structs.replace(build, verdict="not executed", reason="") for build in data.builds[-1:])
    table = summary_table(msgspec.structs.replace(data, parity=None, builds=builds))
    assert cell(table, "tensorrt-rtx-int8", "verdict").note == "no NVIDIA driver on this machine"


def test_an_untrained_model_has_speed_and_size_and_no_accuracy(untrained: ReportData) -> None:
    table = summary_table(untrained)
    assert not {"top-1", "agreement", "SQNR"} & set(titles(table))
    assert {"size", "latency p50", "worth it"} <= set(titles(table))
    assert "points" not in text(table) and "points" not in table.caption
    assert headline(untrained).endswith("untrained: speed and size only")
    assert [tile.label for tile in tiles(untrained)] == [
        "fastest build",
        "latency vs openvino-float32",
        "size vs float32",
    ]


def test_the_ladder_of_an_untrained_model_shows_closeness_alone(data: ReportData) -> None:
    assert data.parity is not None
    table = ladder_table(msgspec.structs.replace(data.parity, trained=False))
    assert titles(table) == ["compared", "verdict", "SQNR", "cosine", "largest error", "samples"]
    assert "says nothing about accuracy" in table.caption


def test_the_headline_counts_every_verdict(data: ReportData) -> None:
    assert headline(data) == "7 builds · 4 passed · 1 failed · 1 inconclusive · 1 built, not executed"
    assert headline(msgspec.structs.replace(data, builds=())) == "No builds"


def test_the_tiles_show_the_fastest_build_that_passed(data: ReportData) -> None:
    fact = best(data)
    assert fact is not None and fact.name == "openvino-int8"
    assert [tile.value for tile in tiles(data)] == ["openvino-int8", "0.57 ×", "−0.14", "0.30 ×"]
    failing = tuple(msgspec.structs.replace(build, verdict="failed") for build in data.builds)
    assert tiles(msgspec.structs.replace(data, builds=failing, parity=None)) == ()


def test_a_tile_calls_no_build_the_fastest_that_a_float32_build_beats(data: ReportData) -> None:
    """int8 of a tiny model is slower than float32: the page of the demo called it the fastest all the same."""
    assert data.bench is not None
    replace = msgspec.structs.replace
    quick = tuple(
        replace(entry, latency=replace(entry.latency, p50=1e-3)) if entry.precision == "float32" else entry
        for entry in data.bench.entries
    )
    assert tiles(data)[0].label == "fastest build that passed"
    beaten = tiles(replace(data, bench=replace(data.bench, entries=quick)))
    assert (beaten[0].label, beaten[0].value) == ("fastest build below float32 that passed", "openvino-int8")


def test_the_summary_compares_builds_at_one_setting(data: ReportData) -> None:
    assert data.bench is not None
    entries = headline_entries(data.bench)
    assert {(entry.batch_size, entry.threads, entry.streams) for entry in entries} == {(1, 2, 1)}
    turned = msgspec.structs.replace(data.bench, entries=data.bench.entries[::-1])
    facts = build_facts(msgspec.structs.replace(data, bench=turned))
    assert [fact.latency for fact in facts] == [fact.latency for fact in build_facts(data)]


def test_the_size_of_a_target_without_float32_is_weighed_against_the_first_float32(data: ReportData) -> None:
    assert cell(summary_table(data), "tensorrt-rtx-int8", "size") == Cell("1.20", "0.44 ×")


def test_measurements_list_every_setting(data: ReportData) -> None:
    assert data.bench is not None
    table = bench_table(data.bench)
    assert len(table.rows) == len(data.bench.entries)
    assert cell(table, "openvino-int8", "ratio").text == "0.57 [0.56, 0.59]"
    assert cell(table, "openvino-int8", "calls").text == "400"
    assert "10 interleaved rounds" in table.caption
    thinned = msgspec.structs.replace(data.bench.entries[0].latency, calls=123_456)
    entry = msgspec.structs.replace(data.bench.entries[0], latency=thinned, cold_start=None)
    table = bench_table(msgspec.structs.replace(data.bench, entries=(entry,)))
    assert cell(table, "openvino-float32", "calls").text == "123\u202f456"
    assert not {"cold start", "cached", "ratio"} & set(titles(table))


def test_the_ladder_holds_the_stages_and_the_builds(data: ReportData) -> None:
    assert data.parity is not None
    table = ladder_table(data.parity)
    assert [row[0].text for row in table.rows] == [rung.name for rung in data.parity.rungs]
    assert cell(table, "onnxruntime-int8w", "verdict").note == "1.26 points lost at best, 0.5 allowed"
    assert cell(table, "openvino-int8", "verdict").note == ""
    assert cell(table, "openvino-int8", "McNemar").text == "0.62"
    assert cell(table, "openvino-int8", "KL") == Cell("0.00076", "highest 0.023")


def test_the_first_divergent_layer_is_marked_once(data: ReportData) -> None:
    assert data.parity is not None
    table = layers_table(data.parity)
    marked = [row[0] for row in table.rows if row[0].tone == "bad"]
    assert marked == [Cell("blocks.2.mlp.fc2.weight", "first divergent", "bad")]
    assert cell(table, "head.weight", "runs in") == Cell("float", "kept in float: sensitive")


def test_the_plan_is_shown_in_counts_and_skips_grouped_by_reason(data: ReportData) -> None:
    assert data.plan is not None
    assert "17 of 18" in text(plan_table(data.plan))
    skipped = data.plan.skipped[0]
    plan = msgspec.structs.replace(data.plan, skipped=(skipped, msgspec.structs.replace(skipped, name="other.weight")))
    assert [[cell.text for cell in row] for row in skipped_table(plan).rows] == [
        ["sensitive: alone it costs 22 dB", "2", "head.weight, other.weight"]
    ]


@pytest.mark.parametrize(
    ("disjoint", "word", "tone"), [(True, "yes", "good"), (False, "no", "bad"), (None, "not checked", "warn")]
)
def test_calibration_says_whether_its_samples_were_kept_apart(
    data: ReportData, disjoint: bool | None, word: str, tone: str
) -> None:
    assert data.calibration is not None
    table = calibration_table(msgspec.structs.replace(data.calibration, disjoint=disjoint))
    assert (table.rows[-1][1].text, table.rows[-1][1].tone) == (word, tone)
    assert "10 of 10" in text(table)


def test_files_and_costs_are_complete(data: ReportData) -> None:
    files = text(files_table(data.builds))
    for build in data.builds:
        for file in build.files:
            assert file.path in files and file.sha256 in files
    costs = stages_table(data.stages)
    assert [cell.text for cell in costs.rows[-1]] == ["all stages", "83.47", "741"]
