from __future__ import annotations

import msgspec
import pytest

from edgevit.measure.judge import busy_warnings, drift_warnings, judged
from edgevit.measure.samples import latency_of
from edgevit.types import BenchEntry, Conditions, Reading


def entry(name: str, *round_ms: float, drift: float | None = None) -> BenchEntry:
    """Every round holds three samples around its level."""
    target, _, precision = name.partition("-")
    return BenchEntry(
        target=target,
        precision=precision,
        batch_size=1,
        threads=2,
        latency=latency_of([[int(level * scale * 1e6) for scale in (0.99, 1.0, 1.01)] for level in round_ms]),
        throughput=1.0,
        streams=1,
        peak_memory_bytes=1,
        size_bytes=1,
        executed_precision="",
        drift=drift,
    )


def test_a_faster_build_is_worth_it_and_the_ratio_is_below_one() -> None:
    baseline = entry("a-float32", 10, 10, 10, 10)
    fast = judged(entry("a-int8", 5, 5, 5, 5), [baseline], seed=0)
    assert fast.verdict == "worth it"
    assert fast.ratio is not None
    assert fast.ratio.value == pytest.approx(0.5)
    assert fast.ratio.interval.high < 1.0
    assert fast.ratio.baseline == "a-float32"


@pytest.mark.parametrize("rounds", [(12, 12, 12, 12), (10, 10, 10, 10), (6, 14, 9, 12)])
def test_slower_equal_and_undecided_builds_are_not_worth_it(rounds: tuple[float, ...]) -> None:
    baseline = entry("a-float32", 10, 10, 10, 10)
    assert judged(entry("a-int8", *rounds), [baseline], seed=0).verdict == "not worth it"


def test_drift_that_both_share_does_not_hide_the_difference() -> None:
    # Both become three times slower over the rounds; in every round the build takes 0.9 of its baseline.
    levels = (10, 14, 18, 22, 26, 30)
    baseline = entry("a-float32", *levels)
    fast = judged(entry("a-int8", *(0.9 * level for level in levels)), [baseline], seed=0)
    assert fast.verdict == "worth it"
    assert fast.ratio is not None
    assert fast.ratio.value == pytest.approx(0.9)


def test_the_baseline_is_the_targets_own_float32_else_the_first() -> None:
    cell = [entry("a-float32", 10, 10), entry("b-float32", 20, 20), entry("b-int8", 15, 15), entry("c-int8", 15, 15)]
    found = [judged(member, cell, seed=0) for member in cell]
    assert [member.ratio and member.ratio.baseline for member in found] == [None, None, "b-float32", "a-float32"]
    assert [member.verdict for member in found] == ["", "", "worth it", "not worth it"]


def test_without_float32_there_is_neither_ratio_nor_verdict() -> None:
    alone = entry("a-int8", 5, 5)
    assert judged(alone, [alone], seed=0) == alone


def test_only_drift_of_more_than_five_percent_is_warned_of() -> None:
    entries = [
        entry("a-float32", 1, drift=0.12),
        entry("a-int8", 1, drift=-0.06),
        entry("b-int8", 1, drift=0.04),
        entry("c-int8", 1),
    ]
    warnings = drift_warnings(entries)
    assert [warning.split(" from ")[0] for warning in warnings] == [
        "a-float32, batch 1, threads 2: latency drifted by +12%",
        "a-int8, batch 1, threads 2: latency drifted by -6%",
    ]
    assert drift_warnings([msgspec.structs.replace(entries[0], drift=None)]) == []


def test_drift_within_the_noise_is_not_warned_of_and_heat_is_named() -> None:
    drifting = msgspec.structs.replace(entry("a-int8", 1, drift=0.12), drift_noise=0.2)
    assert not drifting.drifted and drift_warnings([drifting]) == []
    throttled = msgspec.structs.replace(
        drifting,
        drift_noise=0.01,
        conditions=Conditions(
            first=Reading(clock_mhz=2400, temperature_c=51), last=Reading(clock_mhz=1500, temperature_c=84)
        ),
    )
    assert throttled.drifted
    (warning,) = drift_warnings([throttled])
    assert "(the clock went from 2400 to 1500 MHz, the processor from 51 to 84 °C)" in warning
    steady = Conditions(first=Reading(clock_mhz=2400), last=Reading(clock_mhz=2400))
    (warning,) = drift_warnings([msgspec.structs.replace(throttled, conditions=steady)])
    assert "(the clock stayed at 2400 MHz)" in warning


def test_a_busy_machine_is_warned_of() -> None:
    (warning,) = busy_warnings(0.62)
    assert warning.startswith("other programs kept 62% of the processors busy")
    assert busy_warnings(0.05) == busy_warnings(None) == []
