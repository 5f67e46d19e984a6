from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.measure.compare import Change, compare_reports, machine_differences
from edgevit.measure.samples import latency_of
from edgevit.types import BenchEntry, BenchReport, GenerationTimes, Machine

MACHINE = Machine(
    cpu="Some CPU",
    architecture="x86_64",
    cores=2,
    memory_bytes=2**33,
    instruction_sets=("avx2",),
    os="Linux",
    python="3.11.7",
    packages={"openvino": "2026.4.1"},
)


def entry(median_ms: float, *, precision: str = "int8", batch_size: int = 1, seed: int = 0) -> BenchEntry:
    generator = np.random.default_rng(seed)
    rounds = [[int(value) for value in generator.lognormal(np.log(median_ms * 1e6), 0.05, size=30)] for _ in range(10)]
    return BenchEntry(
        target="openvino",
        precision=precision,
        batch_size=batch_size,
        threads=2,
        latency=latency_of(rounds),
        throughput=1.0,
        streams=1,
        peak_memory_bytes=1,
        size_bytes=1,
        executed_precision="i8",
    )


def report(*entries: BenchEntry, machine: Machine = MACHINE) -> BenchReport:
    return BenchReport(model="m", machine=machine, seconds=1.0, rounds=10, entries=entries)


@pytest.mark.parametrize(
    ("new_ms", "kind"), [(12.0, "slower"), (8.0, "faster"), (10.0, "unchanged"), (10.15, "unchanged")]
)
def test_kind_follows_the_direction_and_small_changes_are_none(new_ms: float, kind: str) -> None:
    (change,) = compare_reports(report(entry(10.0)), report(entry(new_ms, seed=1)))
    assert change.kind == kind
    assert change.ratio is not None
    assert change.ratio.value == pytest.approx(new_ms / 10.0, rel=0.03)
    assert change.ratio.interval.low <= change.ratio.value <= change.ratio.interval.high
    assert (change.old_ms, change.new_ms) == pytest.approx((10.0, new_ms), rel=0.03)
    assert change.machines == ()


def test_a_large_change_that_the_noise_hides_is_unchanged() -> None:
    # Round medians from 5 to 15 ms on both sides: a ratio of 1.1 cannot be told from 1.
    levels = np.linspace(5, 15, 10)
    old = [[int(level * 1e6)] * 5 for level in levels]
    new = [[int(level * 1.1e6)] * 5 for level in levels]
    before, after = (msgspec.structs.replace(entry(1.0), latency=latency_of(rounds)) for rounds in (old, new))
    (change,) = compare_reports(report(before), report(after))
    assert change.ratio is not None
    assert change.ratio.value == pytest.approx(1.1)
    assert change.kind == "unchanged"


def test_entries_are_matched_by_setting_and_others_are_named() -> None:
    old = report(entry(10.0), entry(10.0, batch_size=8))
    new = report(entry(10.0, precision="float32"), entry(10.0))
    assert [(change.name, change.batch_size, change.kind) for change in compare_reports(old, new)] == [
        ("openvino-float32", 1, "added"),
        ("openvino-int8", 1, "unchanged"),
        ("openvino-int8", 8, "removed"),
    ]


def writing(median_ms: float, token_ms: float, tokens: int = 32, seed: int = 0) -> BenchEntry:
    times = GenerationTimes(
        source_length=16, tokens=tokens, first_token=entry(5.0).latency, next_token=entry(token_ms, seed=seed).latency,
        by_place=(5.0, token_ms), rates=(), memory=(),
    )  # fmt: skip
    return msgspec.structs.replace(entry(median_ms, seed=seed + 7), generation=times)


@pytest.mark.parametrize(("token_ms", "kind"), [(2.0, "unchanged"), (2.6, "slower"), (1.6, "faster")])
def test_of_what_writes_a_further_token_is_compared_too(token_ms: float, kind: str) -> None:
    (change,) = compare_reports(report(writing(10.0, 2.0)), report(writing(10.0, token_ms, seed=1)))
    assert (change.kind, change.tokens) == (kind, 32)
    assert change.further is not None
    assert change.further.value == pytest.approx(token_ms / 2.0, rel=0.03)


def test_texts_of_another_length_are_another_setting() -> None:
    changes = compare_reports(report(writing(10.0, 2.0)), report(writing(10.0, 2.0, tokens=64)))
    assert [(change.tokens, change.kind) for change in changes] == [(64, "added"), (32, "removed")]


def test_differing_machines_are_said_on_every_change() -> None:
    other = msgspec.structs.replace(
        MACHINE, cores=4, packages={"onnxruntime": "1.31"}, instruction_sets=("avx2", "fma")
    )
    expected = (
        "cores: 2 -> 4",
        "instruction_sets: avx2 -> avx2 fma",
        "onnxruntime: absent -> 1.31",
        "openvino: 2026.4.1 -> absent",
    )
    assert machine_differences(MACHINE, other) == expected
    changes = compare_reports(report(entry(10.0)), report(entry(10.0), machine=other))
    assert [change.machines for change in changes] == [expected]
    assert machine_differences(MACHINE, MACHINE) == ()


def test_changes_survive_a_file() -> None:
    changes = compare_reports(report(entry(10.0)), report(entry(12.0)))
    assert msgspec.json.decode(msgspec.json.encode(changes), type=tuple[Change, ...]) == changes
