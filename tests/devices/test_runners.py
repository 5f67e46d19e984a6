"""Vendors' benchmark programs on a phone: what they print is read as they print it, and nothing of them stays there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.devices import find_runner
from edgevit.errors import InputError, MeasureError
from edgevit.types import BenchReport

OLD_LITERT = """INFO: Initialized session in 3.501ms.
count=12 first=156677 curr=33205 min=32578 max=156677 avg=43268.1 std=34197

count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129

Inference timings in us: Init: 3501, First inference: 156677, Warmup (avg): 43268.1, Inference (avg): 33071.8
"""
NEW_LITERT = """count=3 first=235158 curr=2386 min=199462 max=235158 avg=211669 std=1 p5=199462 median=200386 p95=235158
count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
Inference timings in us: Init: 92318, First inference: 235158, Warmup (avg): 211669, Inference (avg): 145528
Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.5
"""
PERF_TEST = """Session creation time cost: 0.0102016 s
Total inference requests: 100
Average inference time cost: 1.85739 ms
Peak working set size: 36696064 bytes
P50 Latency: 0.00185674 s
P90 Latency: 0.00187215 s
P95 Latency: 0.00187393 s
P99 Latency: 0.00190312 s
"""
EXECUTORCH = (
    "I 00:00:01.2 executorch:executor_runner.cpp:310] Model executed successfully 50 time(s) in 421.500000 ms.\n"
)


@pytest.mark.parametrize(
    ("name", "output", "times"),
    [
        ("benchmark_model", OLD_LITERT, (33.0718, 33.239, 33.239, 33.0718, 50, 0)),
        ("linux_aarch64_benchmark_model", NEW_LITERT, (141.253, 187.533, 195.121, 145.528, 25, 77070336)),
        ("onnxruntime_perf_test", PERF_TEST, (1.85674, 1.87215, 1.90312, 1.85739, 100, 36696064)),
        ("executor_runner", EXECUTORCH, (8.43, 8.43, 8.43, 8.43, 50, 0)),
    ],
)
def test_what_they_print_is_read(tmp_path: Path, name: str, output: str, times: tuple[float, ...]) -> None:
    (tmp_path / name).touch()
    runner = find_runner(tmp_path / name)
    found = runner.times(output)
    latency = found.latency
    assert (latency.p50, latency.p90, latency.p99, latency.mean) == pytest.approx(times[:4])
    assert (latency.calls, found.peak_memory_bytes) == times[4:]
    with pytest.raises(MeasureError, match="found: Benchmarking failed.$"):
        runner.times("ERROR: no such file\nBenchmarking failed.\n")


def test_a_program_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a program for the device at .*, found none"):
        find_runner(tmp_path / "benchmark_model")
    (tmp_path / "bench").touch()
    with pytest.raises(InputError, match="benchmark_model, onnxruntime_perf_test, executor_runner"):
        find_runner(tmp_path / "bench")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """(shell script) -> a program called as ONNX Runtime's."""

    def make(script: str) -> Path:
        file = tmp_path / "onnxruntime_perf_test"
        file.write_text(f"#!/bin/sh\n{script}\n")
        return file

    return make


def test_a_phone_without_python_is_measured(
    inside: Any, digits: Any, phones: Any, program: Any, tmp_path: Path
) -> None:
    home = phones(R58M123="device")
    calls = tmp_path / "calls"
    # It has to be called with a model that is there, and says what it was called with.
    file = program(f'for last; do :; done; test -s "$last" || exit 3; echo "$@" >> {calls}\ncat <<E\n{PERF_TEST}E')
    arguments = ["bench", digits.bundle, "--adb", "--runner", file, "--threads", "1,4", "--seconds", 2]
    result = inside(*arguments, "--json")
    assert result.status == 0, result.err
    report = msgspec.json.decode(result.out, type=BenchReport)
    rows = [(entry.name, entry.threads, entry.runner, entry.latency.p50) for entry in report.entries]
    assert rows == [
        (f"onnxruntime-{precision}", threads, "onnxruntime_perf_test", pytest.approx(1.85674))
        for precision in ("float32", "int8")
        for threads in (1, 4)
    ]
    assert calls.read_text().splitlines()[:2] == [
        f"-e cpu -m duration -t 2 -x {threads} -s -I model.onnx" for threads in (1, 4)
    ]
    assert report.not_executed["openvino-int8"].startswith("onnxruntime_perf_test runs builds of onnxruntime, ort-mob")
    assert "no parity was executed there" in report.warnings[0]
    assert report.device == "R58M123" and report.machine.python == "none" and report.machine.cores > 0
    assert [path.name for path in (home / "R58M123").iterdir()] == ["python"]
    (tmp_path / "old.json").write_text(result.out)
    compared = inside(*arguments, "--compare", tmp_path / "old.json")
    assert compared.status == 2 and "found onnxruntime-float32 of onnxruntime_perf_test; leave" in compared.complaint
    table = inside(*arguments)
    assert table.status == 0 and "onnxruntime_perf_test measured" in " ".join(table.out.split())


@pytest.mark.parametrize(
    ("script", "arguments", "status", "words"),
    [
        ("echo Segmentation fault; exit 139", [], 1, "ended with status 139: Segmentation fault"),
        ("echo hello", [], 1, "expected the times that onnxruntime_perf_test prints, found: hello"),
        ("exit 126", [], 3, "expected onnxruntime_perf_test to run on a, found: 126; build it for that processor"),
        ("", ["--target", "openvino"], 3, "expected a build that onnxruntime_perf_test runs, found none"),
        ("", ["--batch-size", "4"], 2, "expected batch 1, which onnxruntime_perf_test measures, found (4,)"),
    ],
)
def test_a_program_that_gives_nothing(
    inside: Any, digits: Any, phones: Any, program: Any, script: str, arguments: list[str], status: int, words: str
) -> None:
    home = phones(a="device")
    result = inside("bench", digits.bundle, "--adb", "--runner", program(script), *arguments)
    assert (result.status, result.out) == (status, "") and words in result.complaint, result.err
    assert [path.name for path in (home / "a").iterdir()] == ["python"]


def test_a_runner_needs_a_phone(inside: Any, digits: Any, program: Any) -> None:
    result = inside("bench", digits.bundle, "--runner", program(""))
    assert result.status == 2 and "expected --adb beside --runner" in result.complaint
