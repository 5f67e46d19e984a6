from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.statistics import median_ratio, normal_quantile, wilson_interval


def test_normal_quantile_is_the_textbook_value() -> None:
    assert normal_quantile(0.975) == pytest.approx(1.959963985, abs=1e-9)
    assert normal_quantile(0.5) == 0.0


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, float("nan")])
def test_normal_quantile_refuses_what_is_no_probability(probability: float) -> None:
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        normal_quantile(probability)


def test_wilson_matches_published_values() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
    for successes, samples, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        interval = wilson_interval(successes, samples)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_the_score_equation(counts: tuple[int, int]) -> None:
    successes, samples = counts
    interval = wilson_interval(successes, samples, level=0.9)
    share, z = successes / samples, normal_quantile(0.95)
    assert 0.0 <= interval.low <= share <= interval.high <= 1.0
    for bound in {interval.low, interval.high} - {0.0, 1.0}:
        assert abs(share - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / samples), abs=1e-9)


@given(st.integers(0, 200), st.integers(200, 400))
def test_wilson_is_symmetric_in_successes_and_failures(successes: int, samples: int) -> None:
    one, other = wilson_interval(successes, samples), wilson_interval(samples - successes, samples)
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)


@pytest.mark.parametrize(("successes", "samples"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(successes: int, samples: int) -> None:
    with pytest.raises(InputError, match="successes"):
        wilson_interval(successes, samples)


def rounds_of(seed: int, rounds: int = 6, size: int = 200, scale: float = 1.0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return [list(scale * rng.lognormal(0.0, 0.1, size)) for _ in range(rounds)]


def test_median_ratio_is_the_ratio_of_the_pooled_medians() -> None:
    value, interval = median_ratio([[1.0, 2.0], [3.0]], [[4.0], [4.0, 5.0]], resamples=50)
    assert value == 0.5
    assert interval.level == 0.95
    assert interval.low <= value <= interval.high


def test_median_ratio_finds_a_true_ratio_and_repeats_under_a_seed() -> None:
    fast, slow = rounds_of(0, scale=0.5), rounds_of(1)
    value, interval = median_ratio(fast, slow, resamples=300, seed=3)
    assert interval.low < 0.5 < interval.high < 0.55
    assert value == pytest.approx(0.5, rel=0.05)
    assert median_ratio(fast, slow, resamples=300, seed=3) == (value, interval)
    assert median_ratio(fast, slow, resamples=300, seed=4) != (value, interval)


def test_median_ratio_of_the_same_measurement_contains_one() -> None:
    _, interval = median_ratio(rounds_of(0), rounds_of(1), resamples=300)
    assert interval.low < 1.0 < interval.high


def test_differences_between_rounds_widen_the_interval() -> None:
    drifting = [[value * factor for value in one] for one, factor in zip(rounds_of(0), range(5, 11), strict=True)]
    pooled = [[value for one in drifting for value in one]]
    _, by_round = median_ratio(drifting, rounds_of(1), resamples=300)
    _, as_one = median_ratio(pooled, rounds_of(1), resamples=300)
    assert by_round.high - by_round.low > 3 * (as_one.high - as_one.low)


def test_pairing_cancels_drift_common_to_both_sides() -> None:
    factors = range(5, 11)
    fast = [[0.5 * value * factor for value in one] for one, factor in zip(rounds_of(0), factors, strict=True)]
    slow = [[value * factor for value in one] for one, factor in zip(rounds_of(1), factors, strict=True)]
    _, paired = median_ratio(fast, slow, paired=True, resamples=300)
    _, apart = median_ratio(fast, slow, paired=False, resamples=300)
    assert paired.low < 0.5 < paired.high
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_a_sample_weighs_the_same_in_rounds_of_any_size() -> None:
    value, interval = median_ratio([[1.0], [2.0] * 99], [[1.0] * 5], resamples=200)
    assert value == 2.0
    assert interval.high == 2.0


@pytest.mark.parametrize(
    ("numerator", "denominator", "message"),
    [
        ([], [[1.0]], "at least one round"),
        ([[1.0], []], [[1.0]], "no empty round"),
        ([[1.0]], [[0.0]], "positive samples in the denominator"),
        ([[float("nan")]], [[1.0]], "positive samples in the numerator"),
    ],
)
def test_median_ratio_refuses_what_has_no_median(
    numerator: list[list[float]], denominator: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        median_ratio(numerator, denominator)


def test_paired_sides_need_the_same_rounds() -> None:
    with pytest.raises(InputError, match="as many rounds on both paired sides, found 2 and 1"):
        median_ratio([[1.0], [1.0]], [[1.0]], paired=True)
