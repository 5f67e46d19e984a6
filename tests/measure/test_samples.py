from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.measure.samples import drift_noise_of, drift_of, latency_of, rounds_of, thin
from edgevit.types import Latency


def test_percentiles_of_known_samples_are_in_milliseconds() -> None:
    # 1 ms … 101 ms: with linear interpolation the p-th percentile of 101 equidistant values is exact.
    latency = latency_of([[n * 1_000_000 for n in range(1, 102)]])
    assert (latency.p50, latency.p90, latency.p99) == pytest.approx((51.0, 91.0, 100.0))
    assert latency.mean == pytest.approx(51.0)
    assert latency.calls == 101


def test_percentiles_pool_all_rounds_and_raw_samples_stay_in_order() -> None:
    latency = latency_of([[3_000_000, 1_000_000], [2_000_000]])
    assert latency.p50 == pytest.approx(2.0)
    assert latency.samples == (3.0, 1.0, 2.0)
    assert latency.round_sizes == (2, 1)
    assert rounds_of(latency) == [(3.0, 1.0), (2.0,)]


def test_percentiles_use_every_call_even_when_the_kept_samples_are_thinned() -> None:
    calls = list(range(1_000_000, 1_000_000 + 50_000))
    latency = latency_of([calls[:25_000], calls[25_000:]], keep=100)
    assert len(latency.samples) == 100
    assert latency.calls == 50_000
    assert latency.p99 == pytest.approx(float(np.percentile(calls, 99)) / 1e6, rel=1e-12)


def test_a_report_without_rounds_is_one_round() -> None:
    assert rounds_of(Latency(p50=1, p90=1, p99=1, mean=1, samples=(1.0, 2.0))) == [(1.0, 2.0)]


@given(
    rounds=st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), min_size=1, max_size=8),
    keep=st.integers(8, 100),
)
def test_thinning_keeps_order_and_every_round(rounds: list[list[int]], keep: int) -> None:
    thinned = thin(rounds, keep)
    assert len(thinned) == len(rounds)
    total = sum(map(len, rounds))
    assert sum(map(len, thinned)) <= keep + len(rounds)
    assert total > keep or thinned == rounds
    for kept, samples in zip(thinned, rounds, strict=True):
        assert kept
        remaining = iter(samples)
        assert all(sample in remaining for sample in kept)  # a subsequence


def test_thinning_is_even() -> None:
    (kept,) = thin([list(range(1000))], 10)
    assert list(kept) == [50, 150, 250, 350, 450, 550, 650, 750, 850, 950]


def test_drift_compares_the_last_third_with_the_first() -> None:
    assert drift_of([[1.0], [1.0], [9.0], [1.0], [1.2], [1.2]]) == pytest.approx(0.2)
    assert drift_of([[2.0], [1.0]]) == pytest.approx(-0.5)
    assert drift_of([[2.0]]) is None


def test_noise_is_what_rounds_scatter_and_not_what_they_drift() -> None:
    rng = np.random.default_rng(0)

    def rounds(noise: float, drift: float) -> list[list[float]]:
        levels = np.linspace(1, 1 + drift, 30) + noise * rng.normal(size=30)
        return [[level, level, level] for level in levels.tolist()]

    steady = [rounds(0.02, 0) for _ in range(400)]
    by_chance = [abs(drift_of(one) or 0) > (drift_noise_of(one) or 0) for one in steady]
    assert 0.01 < np.mean(by_chance) < 0.15, "about one in twenty"
    # Heat: 8 % slower at the end, far beyond a scatter of 1 %.
    assert all(drift_of(one) > drift_noise_of(one) for one in (rounds(0.01, 0.08) for _ in range(50)))
    # The same drift among rounds that scatter by as much is not seen.
    assert np.mean([drift_of(one) > drift_noise_of(one) for one in (rounds(0.2, 0.08) for _ in range(200))]) < 0.3
    assert drift_noise_of([[1.0]] * 5) is None and drift_noise_of([[1.0]] * 6) == 0
