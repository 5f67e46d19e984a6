from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from edgevit.bundle import Manifest, write_manifest
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.measure.bench import bench, bench_builds, select
from edgevit.measure.cell import Subject, rotated
from edgevit.measure.machine import describe_machine
from edgevit.measure.options import BenchOptions
from edgevit.types import BenchReport, Build, BuildFile, Engine, ImagePreprocess, Signature, TensorSpec

MakeSubject = Callable[..., Subject]
needs_sigkill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


def options(**changes: object) -> BenchOptions:
    quick = BenchOptions(threads=(2,), streams=1, seconds=0.12, rounds=4, cold_starts=0, warmup_seconds=0.0, timeout=60)
    return msgspec.structs.replace(quick, **changes)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, make_subject: MakeSubject) -> tuple[BenchReport, list, Path]:
    """One report of builds that sleep 20 ms (float32), 1 ms (int8) and 40 ms (float16), and of three that fail."""
    bundle = tmp_path_factory.mktemp("bundle")
    subjects = [
        make_subject(bundle, "fake-float32", sleep_ms=20),
        make_subject(bundle, "fake-int8", sleep_ms=1, executes="i8"),
        make_subject(bundle, "gone-int8", unavailable=True),
        make_subject(bundle, "slow-float16", sleep_ms=40),
        make_subject(bundle, "dying-int8", kill_at=4),
        make_subject(bundle, "raising-int8", raise_at=2),
    ]
    steps: list[tuple[int, int, str]] = []
    report = bench_builds("model", subjects, options(), lambda *step: steps.append(step))
    return report, steps, bundle


def entry_of(report: BenchReport, name: str) -> object:
    return next(entry for entry in report.entries if entry.name == name)


@needs_sigkill
def test_builds_that_run_are_measured_and_keep_their_order(measured) -> None:
    report, _, _ = measured
    assert [entry.name for entry in report.entries] == ["fake-float32", "fake-int8", "slow-float16"]
    assert (report.model, report.rounds, report.seconds) == ("model", 4, 0.12)
    assert report.started.endswith("+00:00")
    assert report.machine.cores >= 1


@needs_sigkill
def test_builds_that_fail_are_reported_with_the_reason(measured) -> None:
    reasons = measured[0].not_executed
    assert set(reasons) == {"gone-int8", "dying-int8", "raising-int8"}
    assert reasons["gone-int8"].startswith("expected a GPU, found none")
    assert "SIGKILL" in reasons["dying-int8"]
    assert "about to die" in reasons["dying-int8"]
    assert reasons["raising-int8"] == "RuntimeError: the fake engine refused the call"


@needs_sigkill
def test_ratios_point_the_right_way_and_decide_the_verdict(measured) -> None:
    report, _, _ = measured
    base, fast, slow = report.entries
    assert (base.ratio, base.verdict) == (None, "")
    assert fast.ratio.baseline == slow.ratio.baseline == "fake-float32"
    assert fast.ratio.interval.high < 1.0 < slow.ratio.interval.low
    assert (fast.verdict, slow.verdict) == ("worth it", "not worth it")
    assert fast.throughput > base.throughput > slow.throughput
    assert fast.executed_precision == "i8"
    assert fast.size_bytes == 123
    assert fast.peak_memory_bytes > 2**20


@needs_sigkill
def test_raw_samples_of_every_round_are_kept(measured) -> None:
    for entry in measured[0].entries:
        latency = entry.latency
        assert len(latency.round_sizes) == 4
        assert sum(latency.round_sizes) == len(latency.samples) == latency.calls
        assert min(latency.samples) <= latency.p50 <= latency.p90 <= latency.p99 <= max(latency.samples)
        assert entry.drift is not None and entry.drift_noise is None, "four rounds are too few to tell"


@needs_sigkill
def test_the_report_survives_a_file(measured) -> None:
    report, _, _ = measured
    assert msgspec.json.decode(msgspec.json.encode(report), type=BenchReport) == report


@needs_sigkill
def test_progress_counts_up_to_no_more_than_the_announced_steps(measured) -> None:
    report, steps, _ = measured
    assert [done for done, _, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total, _ in steps} == {6 * 4}
    assert len(steps) >= len(report.entries) * 4
    assert steps[-1][2].endswith(": latency")


def test_rounds_are_rotated_so_that_everyone_goes_first() -> None:
    assert [rotated("ABC", turn) for turn in range(4)] == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]
    assert rotated([], 3) == []


def turns(bundle: Path) -> list[str]:
    """Who computed when, from the calls that the sessions wrote down: one letter per uninterrupted turn."""
    calls = [line.split()[0] for line in (bundle / "calls.log").read_text().splitlines() if "closed" not in line]
    return [name[0] for name, _ in groupby(calls)]


def test_processes_take_turns_in_rotated_rounds(tmp_path: Path, make_subject: MakeSubject) -> None:
    subjects = [make_subject(tmp_path, f"{name}-float32") for name in "abc"]
    bench_builds("model", subjects, options(seconds=0.003, rounds=3))
    warm_ups, rounds = "abc", "abcbcacab"
    assert "".join(turns(tmp_path)) == warm_ups + rounds


def test_every_batch_size_and_thread_count_is_measured_and_streams_apart(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    subject = make_subject(tmp_path, "fake-float32", sleep_ms=1)
    report = bench_builds(
        "model", [subject], options(batch_sizes=(1, 3), threads=(1, 2), streams=None, seconds=0.01, rounds=1)
    )
    settings = [(entry.batch_size, entry.threads, entry.streams) for entry in report.entries]
    assert settings == [(1, 1, 1), (1, 2, 2), (3, 1, 1), (3, 2, 2)]
    assert all(entry.throughput > 0 for entry in report.entries)
    lines = (tmp_path / "calls.log").read_text().splitlines()
    assert lines.count("fake-float32 closed") == 6  # four latency processes, two more for streams
    assert {line.split()[1] for line in lines} == {"1", "3", "closed"}


def test_a_build_that_fails_in_one_setting_only_is_reported_with_that_setting(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    subject = make_subject(tmp_path, "fixed-float32", fixed_batch=1)
    report = bench_builds("model", [subject], options(batch_sizes=(1, 4), seconds=0.01, rounds=1))
    assert [entry.batch_size for entry in report.entries] == [1]
    ((where, reason),) = report.not_executed.items()
    assert where == "fixed-float32 (batch 4, threads 2)"
    assert reason.startswith("expected batch size 1, found 4: input 'pixel_values'")


def test_the_cold_start_belongs_to_the_first_entry_of_a_build(tmp_path: Path, make_subject: MakeSubject) -> None:
    subjects = [make_subject(tmp_path, "fake-float32"), make_subject(tmp_path, "brittle-int8", fails_cold=True)]
    report = bench_builds("model", subjects, options(batch_sizes=(1, 2), seconds=0.01, rounds=1, cold_starts=1))
    have = {(entry.name, entry.batch_size): entry.cold_start is not None for entry in report.entries}
    assert have == {
        ("fake-float32", 1): True,
        ("brittle-int8", 1): False,
        ("fake-float32", 2): False,
        ("brittle-int8", 2): False,
    }
    warnings = [warning for warning in report.warnings if "cold start" in warning]
    assert warnings == [
        "brittle-int8: its cold start could not be measured: RuntimeError: no room in the cache directory"
    ]


def names(subjects: list[Subject]) -> list[str]:
    return [subject.name for subject in subjects]


def test_targets_select_builds_and_unknown_ones_are_refused_with_the_choices() -> None:
    subjects = [
        Subject(target=target, precision=precision, bundle=".", size_bytes=0)
        for target, precision in (("openvino", "float32"), ("openvino", "int8"), ("onnxruntime", "int8"))
    ]
    assert names(select(subjects, ())) == ["openvino-float32", "openvino-int8", "onnxruntime-int8"]
    assert names(select(subjects, ("openvino",))) == ["openvino-float32", "openvino-int8"]
    assert names(select(subjects, ("onnxruntime", "openvino:int8"))) == ["openvino-int8", "onnxruntime-int8"]
    assert names(select(subjects, ("openvino-int8",))) == ["openvino-int8"]
    with pytest.raises(InputError, match=r"\(openvino:float32, openvino:int8, onnxruntime:int8\), found 'tensorrt'"):
        select(subjects, ("openvino", "tensorrt"))
    with pytest.raises(InputError, match="found none"):
        select([], ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_sizes": ()},
        {"batch_sizes": (0,)},
        {"threads": (2, -1)},
        {"rounds": 0},
        {"streams": 0},
        {"seconds": 0.0},
        {"timeout": -1.0},
        {"cold_starts": -1},
        {"warmup_seconds": -0.1},
    ],
)
def test_options_without_sense_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"expected {next(iter(wrong))} "):
        bench_builds("model", [], options(**wrong))


def test_a_bundle_is_measured_from_its_manifest(tmp_path: Path, make_subject: MakeSubject, fake_opener: str) -> None:
    make_subject(tmp_path, "fake-float32")
    weights = tmp_path / "fake-float32" / "weights.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"0123456789")
    signature = Signature(
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 4, 4)),), outputs=()
    )
    machine = describe_machine()
    build = Build(
        target="fake",
        precision="float32",
        files=(BuildFile(path="fake-float32/weights.bin", size=10, sha256=sha256(weights)),),
        signature=signature,
        engine=Engine(name="fake", version="1"),
        machine=machine,
    )
    manifest = Manifest(
        edgevit="0",
        model="tiny",
        source_digest="",
        signature=signature,
        task="image-classification",
        preprocess=ImagePreprocess(size=(4, 4), mean=(0.5,), std=(0.5,)),
        labels=(),
        trained=True,
        toolchain={},
        machine=machine,
        builds=(build,),
    )
    write_manifest(tmp_path, manifest)
    report = bench(tmp_path, options(seconds=0.01, rounds=1), opener=fake_opener)
    assert report.model == "tiny"
    assert [(entry.name, entry.size_bytes) for entry in report.entries] == [("fake-float32", 10)]
