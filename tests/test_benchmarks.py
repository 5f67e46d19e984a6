"""Each suite works on a tiny model, and what the documents claim is what was recorded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUITES = ("peers", "seeds", "overhead", "memory", "exports", "sequences", "phrases", "checkpoints", "nvidia", "mobile")
QUANTITY = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)\s?(×|dB|ms|µs|MB|GB|points)(?!\w)")


@pytest.fixture
def record(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import record

    return record


# -------------------------------------------------------------------------------------------------- suites


@pytest.fixture(scope="module")
def smoke(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(suite) -> the folder with what its smoke run recorded."""

    def run(suite: str) -> Path:
        folder = tmp_path_factory.mktemp(suite)
        command = [sys.executable, str(repository / "benchmarks" / "run.py"), suite, "--smoke"]
        done = subprocess.run(
            [*command, "--results", str(folder / "results"), "--work", str(folder)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"{suite}, " in done.stdout
        return folder

    return run


def only(record: Any, folder: Path, suite: str) -> Any:
    """What a smoke run recorded; nothing of its work is left behind."""
    assert [path.name for path in folder.iterdir()] == ["results"]
    (result,) = record.read_results(folder / "results")
    assert (result.suite, result.shortened) == (suite, "smoke")
    assert all(table.rows for table in result.findings.tables)
    return result.findings


def test_peers_executes_every_build_and_compares_ours_with_each(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("peers"), "peers")
    raw = findings.raw["digits-vit"]
    bfloat16 = "openvino-bfloat16" in raw["latency"]
    assert len(raw["latency"]) == len(raw["closeness"]) == (11 if bfloat16 else 8)
    for build, close in raw["closeness"].items():
        if not build.endswith("int8"):
            assert close["sqnr_db"] > (80 if build.endswith("float32") else 30)
            assert close["int8_layers"] == 0
        else:
            assert 10 < close["sqnr_db"] < 80
            assert close["int8_layers"] > close["layers"] / 2
    assert set(raw["ratios"]["onnxruntime-int8"]) == {
        "onnxruntime-float32",
        "static-int8",
        "static_best-int8",
        "dynamic-int8",
    }
    assert all(cost["seconds"] > 0 for costs in raw["costs"].values() for cost in costs)
    assert sum("SQNR" in figure.name for figure in findings.figures) == 4


def test_seeds_judges_the_simulated_model_and_both_engines(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("seeds"), "seeds")
    assert set(findings.raw["0"]) == {"simulated int8", "openvino-int8", "onnxruntime-int8"}
    assert all(20 < rung["sqnr_db"] < 80 for rung in findings.raw["0"].values())
    (figure,) = findings.figures
    assert figure.value == max(rung["points_lost"] for rung in findings.raw["0"].values())


def test_overhead_times_both_sides_of_every_build(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("overhead"), "overhead")
    builds = [
        f"digits-vit {engine}:{precision}"
        for engine in ("openvino", "onnxruntime")
        for precision in ("float32", "int8")
    ]
    assert set(findings.raw["calls_ns"]) == set(builds)
    for sides in findings.raw["calls_ns"].values():
        assert all(ns > 0 for side in ("edgevit", "engine") for part in sides[side] for ns in part)
    assert set(findings.raw["first_result_ms"]) == {build for build in builds if build.endswith("int8")}
    assert len(findings.raw["import_ms"]["edgevit"]) == 2


def test_memory_measures_the_process_that_calibrates(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("memory"), "memory")
    few, many = findings.raw["digits-vit"].values()
    assert min(few["peak_process_bytes"], many["peak_process_bytes"]) > 50e6
    (figure,) = findings.figures
    assert figure.value == pytest.approx(many["peak_process_bytes"] / few["peak_process_bytes"], rel=1e-4)


def test_exports_shows_every_stage(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("exports"), "exports")
    stages = {stage["stage"] for stage in findings.raw["digits-vit"]["stages"]}
    assert {"load", "lower", "calibrate", "plan", "quantize", "build-openvino-int8"} <= stages
    assert all(stage["peak_bytes"] > 50e6 for stage in findings.raw["digits-vit"]["stages"])
    assert {row[0] for row in findings.tables[1].rows} == stages


def test_sequences_times_every_token_of_every_build(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("sequences"), "sequences")
    builds = {f"openvino-{precision}" for precision in ("float32", "int8", "int8d", "int8w")}
    builds |= {f"onnxruntime-{precision}" for precision in ("float32", "int8", "int8d")}
    assert set(findings.raw["loops"]) == builds
    for found in findings.raw["loops"].values():
        ((tokens,), (engine,)) = found["token_ns"], found["engine_ns"]
        assert len(tokens) == len(engine) == 16
        assert all(0 < own < whole for own, whole in zip(engine, tokens, strict=True))
    for name in ("openvino-float32", "onnxruntime-float32"):
        whole = findings.raw["loops"][name]["whole"]
        assert whole["same_tokens"] == whole["tokens"] == 16
    measured = {f"{entry['target']}-{entry['precision']}" for entry in findings.raw["builds"]}
    assert measured == builds | {"nncf_weights-int8w", "nncf_dynamic-int8d", "nncf_static-int8"}
    for found in findings.raw["graphs"].values():
        ((one,), (two,)) = found["one"], found["two"]
        assert len(one) == len(two) == 16
    assert sum("beyond the engine's own steps" in figure.name for figure in findings.figures) == 7
    assert len(findings.tables) == 3
    assert findings.warnings[-1].startswith("optimum-intel was not measured")


def test_phrases_has_what_each_model_gets_right_and_how_fast(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("phrases"), "phrases")
    assert set(findings.raw["results"]) == {"tags-rnn", "phrases-transformer"}
    for builds in findings.raw["results"].values():
        assert set(builds) == {"openvino-float32", "openvino-int8"}
        assert builds["openvino-float32"]["size"] > builds["openvino-int8"]["size"]
        for found in builds.values():
            assert len(found["single_ms"]) == 4
            assert found["task"]["build"] > 50
            assert len(found["lengths"]) > 1
    right, lengths = findings.tables
    assert [row[:2] for row in right.rows] == [row[:2] for row in lengths.rows]
    assert right.rows[0][0] == "tags-rnn" and not right.rows[0][3], "a tagger has no BLEU"


def test_checkpoints_makes_both_builds_and_says_who_was_not_measured(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("checkpoints"), "checkpoints")
    assert set(findings.raw["spent"]) == set(findings.raw["closeness"]) == {"openvino-int8", "onnxruntime-int8"}
    assert all(20 < close["sqnr_db"] < 60 for close in findings.raw["closeness"].values())
    assert all(
        {"load", "lower", "plan"} <= {cost["stage"] for cost in costs} for costs in findings.raw["stages"].values()
    )
    assert findings.figures == ()
    assert sum("was not measured" in warning for warning in findings.warnings) == 5


def test_nvidia_compiles_every_precision_and_simulates_it(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("nvidia"), "nvidia")
    found = findings.raw["digits-vit"]
    assert set(found) == {"float32", "float16", "bfloat16", "float8", "int8", "int4w"}
    for precision, one in found.items():
        assert one["together"]["seconds"] > 0 and one["together"]["bytes"] > 1e6
        assert one["compiled"] == one["requested"] == {"int8": 26, "float8": 25, "int4w": 25}.get(precision, 0)
    assert {precision for precision, one in found.items() if one["cards"]["sm75"]} == {"float16", "int8"}
    close = {precision: one["sqnr_db"] for precision, one in found.items()}
    assert close["float32"] > close["float16"] > close["bfloat16"] > close["float8"] > 20
    assert close["float16"] > close["int8"] > close["int4w"] > 15
    assert [figure.status for figure in findings.figures] == ["reached", "reached"]


def test_what_edgevit_makes_of_a_checkpoint_is_weighed_against_each_peer_of_its_engine(record: Any) -> None:
    import checkpoints
    from processes import Spent

    from edgevit.types import BenchEntry, BenchReport, Latency

    def entry(name: str, ms: float) -> BenchEntry:
        times = tuple(ms * (1 + 0.01 * place) for place in range(12))
        latency = Latency(p50=ms, p90=ms, p99=ms, mean=ms, samples=times, round_sizes=(4, 4, 4))
        return BenchEntry(
            target=name.removesuffix("-int8"),
            precision="int8",
            batch_size=1,
            threads=1,
            latency=latency,
            throughput=1.0,
            streams=1,
            peak_memory_bytes=0,
            size_bytes=0,
            executed_precision="int8",
        )

    times = {
        "openvino-int8": 2.0,
        "optimum_openvino_static-int8": 4.0,
        "onnxruntime-int8": 3.0,
        "olive_static-int8": 2.0,
    }
    bench = BenchReport(
        model="vit-base",
        machine=record.read_results(record.RESULTS)[0].machine,
        seconds=1.0,
        rounds=3,
        entries=tuple(entry(name, ms) for name, ms in times.items()),
    )
    found = checkpoints.Found(
        spent={name: Spent(seconds=10 * ms, peak_tree_bytes=int(1e9 / ms)) for name, ms in times.items()},
        stages={},
        versions={"olive_static-int8": {"olive-ai": "0.13.0"}},
        closeness={name: {"sqnr_db": 10 * ms} for name, ms in times.items()},
        sizes=dict.fromkeys(times, 1),
        bench=bench,
    )
    figures = checkpoints._figures(found)
    assert [(round(figure.value, 3), figure.status) for figure in figures] == [
        (0.5, "reached"),
        (20.0, "missed"),
        (0.5, "reached"),
        (2.0, "missed"),
        (1.5, "missed"),
        (30.0, "reached"),
        (1.5, "missed"),
        (0.667, "reached"),
    ]
    assert "olive-ai 0.13.0" in checkpoints._ways(found).rows[3]


def test_mobile_has_every_build_and_each_vendors_recipe(smoke: Any, record: Any) -> None:
    import mobile_tables

    findings = only(record, smoke("mobile"), "mobile")
    raw = findings.raw["digits-vit"]
    ours = {"ort-mobile-float32", "ort-mobile-int8", "executorch-float32", "executorch-int8"}
    ours |= {"litert-float32", "litert-int8d"}
    measured = {f"{entry['target']}-{entry['precision']}" for entry in raw["entries"]}
    assert measured == set(raw["closeness"]) == set(raw["loading_ms"]) == ours | {"torchao-int8", "torchao-int4d"}
    for build, close in raw["closeness"].items():
        assert close["sqnr_db"] > 100 if build.endswith("float32") else 15 < close["sqnr_db"] < 80, build
        baseline = mobile_tables.float_of(build)
        assert build == baseline or raw["ratios"][build][baseline]["value"] > 0
        assert raw["sizes"][build] < raw["sizes"][baseline] or build == baseline
    assert all(share["macs"] > 0.9 for share in raw["delegated"].values())
    assert set(raw["delegated"]) == {build for build in measured if not build.startswith("ort-mobile")}
    weights = raw["weights"]
    assert set(weights) == {"coreml-float16", "coreml-int8w", "coremltools-int8w"}
    assert min(weights["coreml-float16"]["sqnr_db"]) > 60 > max(weights["coreml-int8w"]["sqnr_db"]) > 30
    texts = findings.raw["phrases-transformer"]
    assert {entry["generation"]["tokens"] for entry in texts["entries"]} == {4}
    assert set(texts["rungs"]) >= {"ort-mobile-float32", "ort-mobile-int8"}
    assert sum("SQNR" in figure.name for figure in findings.figures) == 2
    assert any(warning.startswith("ai-edge-quantizer was not measured") for warning in findings.warnings)


def test_the_front_page_shows_mobile_builds_below_their_engine(record: Any, tmp_path: Path) -> None:
    import front_mobile

    builds = {"litert-float32": 1e6, "edge_quantizer-int8d": 3e5, "litert-int8d": 3e5, "executorch-float32": 1e6}
    entries = [
        {"target": name.rpartition("-")[0], "precision": name.rpartition("-")[2], "latency": {"p50": place + 1.0}}
        for place, name in enumerate(builds)
    ]
    found = {
        "entries": entries,
        "ratios": {name: {} if name.endswith("float32") else {"litert-float32": {"value": 0.5}} for name in builds},
        "closeness": {name: {"sqnr_db": 30.0} for name in builds},
        "sizes": builds,
    }
    machine = {"cpu": "C", "architecture": "a", "cores": 2, "memory_bytes": 1, "os": "o", "python": "p"}
    result = record.Result(
        suite="mobile",
        started="2026-01-01",
        seconds=1.0,
        machine=record.Machine(instruction_sets=("avx2",), **machine),
        findings=record.Findings(figures=(), tables=(), raw={front_mobile.MODEL: found}),
    )
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{front_mobile.BEGIN}\n{front_mobile.END}\nafter\n", encoding="utf-8")
    front_mobile.update_mobile([result], readme)
    lines = readme.read_text(encoding="utf-8").splitlines()
    titles = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    assert titles == ["ExecuTorch, float32", "LiteRT, float32", "LiteRT, int8d", "ai-edge-quantizer, dynamic range"]
    assert lines[0] == "before" and lines[-1] == "after"
    assert "| 3.00 ms | 0.500 ×" in " ".join(" ".join(lines).split())


def test_a_token_is_weighed_against_optimum_intels(record: Any) -> None:
    import tokens

    def loop(ms: float) -> dict[str, Any]:
        runs = [[9e6, *[ms * 1e6 * (1 + 0.01 * run)] * 4] for run in range(5)]  # the first token does not count
        return {"token_ns": runs, "engine_ns": [[0.9 * ns for ns in run] for run in runs], "size": 1}

    loops = {"openvino-float32": loop(6.0), "openvino-int8": loop(2.0)}
    optimum = {"builds": {"float32": loop(8.0), "int8": loop(4.0)}, "versions": {"optimum-intel": "2.2.0"}}
    (figure,) = tokens.optimum_figures("model", loops, optimum)
    assert (figure.value, figure.status) == (pytest.approx(0.5), "reached")
    assert figure.interval.low <= 0.5 <= figure.interval.high
    table = tokens.optimum_table("model", loops, optimum)
    assert table.rows[1] == ("edgevit openvino-int8", "2.04 ms", "1.84 ms")
    assert "optimum-intel 2.2.0" in table.note


def test_an_unknown_suite_is_a_usage_error_that_lists_the_choices(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "run.py"), "pears"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(suite in done.stderr for suite in (*SUITES, "pears"))


# ------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("value", "at_least", "status"),
    [(0.5, False, "reached"), (0.51, False, "missed"), (0.5, True, "reached"), (0.49, True, "missed")],
)
def test_a_figure_is_judged_by_its_target(record: Any, value: float, at_least: bool, status: str) -> None:
    target = record.Target(limit=0.5, quantity=record.RATIO, at_least=at_least)
    assert record.figure("name", value, target).status == status


@pytest.mark.parametrize(("present", "status"), [(("avx2",), "not measurable here"), (("avx512_vnni",), "missed")])
def test_a_figure_for_another_processor_is_shown_and_not_judged(
    record: Any, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], status: str
) -> None:
    monkeypatch.setattr(record, "instruction_sets", lambda: present)
    target = record.Target(limit=0.36, quantity=record.RATIO, needs_vnni=True)
    found = record.figure("name", 0.61, target)
    assert (found.status, found.value, found.measured) == (status, 0.61, "0.610 ×")
    assert ("VNNI" in found.reason) == (status == "not measurable here")


STEPS = """
import subprocess, sys

def grow(megabytes):
    held = b"x" * (megabytes << 20)
    return len(held)

def child(megabytes):
    code = f"import time; held = b'x' * ({megabytes} << 20); time.sleep(1)"
    subprocess.run([sys.executable, "-c", code], check=True)

def fail():
    raise ValueError("the reason")
"""


def test_a_step_tells_the_memory_of_its_processes_and_why_it_failed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "steps_of_a_test.py").write_text(STEPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import processes

    small, large = (processes.run_step("steps_of_a_test:grow", {"megabytes": size}) for size in (1, 201))
    assert large.result == 201 << 20
    assert large.cost.peak_process_bytes - small.cost.peak_process_bytes == pytest.approx(200 << 20, rel=0.2)
    child = processes.run_step("steps_of_a_test:child", {"megabytes": 200}).cost
    assert child.peak_tree_bytes > child.peak_process_bytes > 200 << 20
    with pytest.raises(processes.StepError, match="the reason"):
        processes.run_step("steps_of_a_test:fail", {})


def test_the_peak_of_an_export_is_that_of_its_largest_stage(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export begins its peak anew with every stage: what the process says of itself at its end is too little."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import processes

    cost = processes.Cost(seconds=1.0, peak_process_bytes=5, peak_tree_bytes=9)
    assert processes.peak_of(cost, [{"peak_bytes": 7}, {"peak_bytes": 3}]) == 7
    assert processes.peak_of(cost, [{"peak_bytes": 3}]) == processes.peak_of(cost, []) == 5


@pytest.mark.skipif(
    not os.environ.get("EDGEVIT_TEST_ARM"),
    reason="nothing was executed on ARM: it fetches a second Python; EDGEVIT_TEST_ARM=1 and qemu-user-static run it",
)
def test_arm_gives_the_same_labels(smoke: Any, record: Any) -> None:
    findings = only(record, smoke("arm"), "arm")
    assert findings.raw["there"]["machine"] == "aarch64"
    builds = findings.raw["there"]["builds"]
    assert len(builds) == 6 and all(build["verdict"] == "passed" for build in builds.values())
    assert [(figure.value, figure.status) for figure in findings.figures] == [(0, "reached")] * 6


def test_a_label_that_differs_on_arm_is_counted(record: Any) -> None:
    import arm

    def side(labels: str, verdict: str = "passed") -> dict[str, Any]:
        build = {"verdict": verdict, "reason": "", "labels": list(labels), "scores": [0.5] * len(labels)}
        gone = {"verdict": "not executed", "reason": "no wheel"}
        return {"machine": "aarch64", "python": "3.11.2", "builds": {"litert-int8": build, "web-int8": gone}}

    findings = arm.compared(side("0123"), side("0223"), 4)
    (figure,) = findings.figures
    assert (figure.value, figure.status) == (1, "missed")
    assert [row[2:] for row in findings.tables[0].rows] == [("3 of 4", "0.0e+00", ""), ("", "", "no wheel")]


# ----------------------------------------------------------------------------------------------- documents


def test_every_recorded_result_is_of_a_full_run_and_has_its_name(repository: Path, record: Any, tmp_path: Path) -> None:
    paths = sorted((repository / "benchmarks" / "results").glob("*"))
    results = record.read_results(repository / "benchmarks" / "results")
    assert len(results) == len(paths)
    for path, result in zip(paths, results, strict=True):
        assert result.suite in (*SUITES, "arm")
        assert result.shortened == ""
        assert record.write_result(result, tmp_path).name == path.name


def test_the_readme_of_the_suites_shows_what_was_recorded(repository: Path, record: Any, tmp_path: Path) -> None:
    results = record.read_results(repository / "benchmarks" / "results")
    readme = repository / "benchmarks" / "README.md"
    if not results:
        assert "None recorded yet." in readme.read_text(encoding="utf-8")
        return
    copy = tmp_path / "README.md"
    copy.write_text(readme.read_text(encoding="utf-8"), encoding="utf-8")
    record.update_readme(results, copy)
    assert copy.read_text(encoding="utf-8") == readme.read_text(encoding="utf-8"), "run: python benchmarks/run.py"


def test_the_front_page_shows_what_was_recorded(
    repository: Path, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import front

    copy, pictures = tmp_path / "README.md", tmp_path / "pictures"
    copy.write_text((repository / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    front.update_front(record.read_results(repository / "benchmarks" / "results"), copy, pictures)
    assert copy.read_text(encoding="utf-8") == (repository / "README.md").read_text(encoding="utf-8")
    committed = repository / "benchmarks" / "pictures"
    assert {path.name for path in pictures.iterdir()} == {path.name for path in committed.iterdir()}
    for picture in pictures.iterdir():
        assert picture.read_text(encoding="utf-8") == (committed / picture.name).read_text(encoding="utf-8")


def test_every_figure_of_the_front_page_was_recorded(repository: Path, record: Any) -> None:
    results = record.read_results(repository / "benchmarks" / "results")
    recorded = quantities([record.markdown(results)])
    front = (repository / "README.md").read_text(encoding="utf-8")
    missing = [claim for claim in quantities([front]) if not any(agrees(claim, known) for known in recorded)]
    assert missing == []


def test_a_claim_agrees_with_what_it_rounds() -> None:
    assert agrees(("0.48", "×"), ("0.482", "×"))
    assert not agrees(("0.47", "×"), ("0.482", "×"))
    assert not agrees(("0.48", "ms"), ("0.482", "×"))
    assert quantities(["at 0.48× and 12 ms, not 3 msgs; 1e3"]) == [("0.48", "×"), ("12", "ms")]


def quantities(texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(number, unit) for text in texts for number, unit in QUANTITY.findall(text)]


def agrees(claim: tuple[str, str], known: tuple[str, str]) -> bool:
    """The same unit, and the recorded number rounds to the claimed one."""
    decimals = len(claim[0].partition(".")[2])
    return claim[1] == known[1] and f"{float(known[0]):.{decimals}f}" == claim[0]
