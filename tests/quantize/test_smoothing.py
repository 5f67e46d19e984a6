"""Equalization: exact in float, found where channels differ, left off where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.errors import PlanError
from edgevit.quantize import smoothing
from edgevit.quantize.histogram_ranges import min_max
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.scales import fake_quantize, scale_from_range
from edgevit.quantize.smoothing import (
    ALPHAS,
    channel_sizes,
    choose_equalization,
    equalization_factors,
    equalized_stats,
)

maxima = hnp.arrays(np.float32, 12, elements=st.floats(0, 1e4, width=32))


def observe(x, rows=256):
    observer = InputObserver("l", rows=rows)
    observer.update(x.astype(np.float32))
    return observer.result()


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def outlier_layer(seed=0, rows=200):
    """A layer whose float outputs are those of a benign one: three channels × 60, their columns / 60."""
    x, weight = normal(seed, rows, 24), normal(seed + 1, 40, 24)
    spread = np.ones(24, np.float32)
    spread[[2, 9, 17]] = 60
    return x * spread, weight / spread


def output_error(x, weight):
    quantized = fake_quantize(weight, scale_from_range(np.abs(weight).max(axis=1)), 0, narrow=True)
    error = x @ weight.T - fake_quantize(x, scale_from_range(np.abs(x).max())) @ quantized.T
    return float(np.square(error).sum() / np.square(x @ weight.T).sum())


@settings(max_examples=40)
@given(maxima, maxima, st.sampled_from(ALPHAS), st.integers(0, 2**31))
def test_equalization_changes_nothing_in_float(channel_max, weight_max, alpha, seed):
    s = equalization_factors(channel_max, weight_max, alpha).astype(np.float64)
    x, weight = normal(seed, 6, 12).astype(np.float64), normal(seed + 1, 5, 12).astype(np.float64)
    np.testing.assert_allclose((x / s) @ (weight * s).T, x @ weight.T, rtol=1e-9, atol=1e-12)


@settings(max_examples=40)
@given(maxima, maxima, st.sampled_from(ALPHAS))
def test_factors_are_bounded_and_centred(channel_max, weight_max, alpha):
    s = equalization_factors(channel_max, weight_max, alpha)
    assert s.dtype == np.float32
    assert (s >= 2.0**-10 * (1 - 1e-6)).all()
    assert (s <= 2.0**10).all()
    live = (channel_max > 0) & (weight_max > 0)
    assert (s[channel_max == 0] == 1).all()
    assert (s[(channel_max > 0) & (weight_max == 0)] == 2.0**10).all()
    if live.any() and s[live].max() < 1000 and s[live].min() > 1 / 1000:
        assert abs(np.log(s[live]).mean()) < 1e-4


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, 6, elements=st.floats(0.125, 8, width=32)),
    hnp.arrays(np.float32, 6, elements=st.floats(0.125, 8, width=32)),
    st.sampled_from(ALPHAS),
)
def test_factors_follow_the_formula(channel_max, weight_max, alpha):
    s = equalization_factors(channel_max, weight_max, alpha)
    formula = channel_max**alpha / weight_max ** (1 - alpha)
    np.testing.assert_allclose(s / s[0], formula / formula[0], rtol=1e-4)


def test_outlier_channels_are_equalized_and_the_true_error_falls():
    x, weight = outlier_layer()
    found = choose_equalization(observe(x), [weight])
    assert found.alpha in ALPHAS
    assert found.error_after < 0.1 * found.error_before
    assert output_error(x / found.factors, weight * found.factors) < 0.2 * output_error(x, weight)
    others = np.delete(found.factors, [2, 9, 17])
    assert found.factors[[2, 9, 17]].min() > 5 * others.max()


def test_a_benign_layer_is_left_alone():
    x, weight = normal(0, 300, 24), normal(1, 40, 24)
    x, weight = np.clip(x, -2, 2), np.clip(weight, -2, 2)
    found = choose_equalization(observe(x), [weight])
    assert found.alpha is None
    np.testing.assert_array_equal(found.factors, np.ones(24, np.float32))
    assert found.error_before == found.error_after > 0


@pytest.mark.parametrize("seed", range(3))
def test_factors_from_few_rows_hold_on_new_rows(seed):
    x, weight = outlier_layer(seed, rows=3000)
    seen, new = x[:100], x[100:]
    factors = choose_equalization(observe(seen), [weight]).factors
    threshold = np.abs(seen / factors).max()
    found = fake_quantize(new / factors, scale_from_range(threshold)) @ (weight * factors).T
    error = np.square(found - new @ weight.T).sum() / np.square(new @ weight.T).sum()
    # Dividing by the largest elements of the 100 rows instead gives 0.001 to 0.002.
    assert error < 5e-4


def test_a_channels_size_is_its_power_unless_it_has_massive_elements():
    x = normal(0, 2000, 8) * np.array([1, 2, 4, 8, 1, 1, 1, 0], np.float32)
    sizes = channel_sizes(observe(x))
    np.testing.assert_allclose(sizes[:4] / sizes[0], [1, 2, 4, 8], rtol=0.1)
    assert sizes[7] == 0
    x[77, 4] = 300
    np.testing.assert_allclose(channel_sizes(observe(x))[4], 300 / 1.5, rtol=1e-6)
    assert channel_sizes(observe(x * 0)).max() == 0


def test_layers_that_share_an_input_share_factors():
    x, weight = outlier_layer()
    parts = [weight[:10], weight[10:25], weight[25:]]
    found = choose_equalization(observe(x), parts)
    assert found.factors.shape == (24,)
    largest = np.abs(weight).max(axis=0)
    np.testing.assert_array_equal(found.factors, equalization_factors(channel_sizes(observe(x)), largest, found.alpha))
    assert sum(output_error(x / found.factors, part * found.factors) for part in parts) < 0.3 * sum(
        output_error(x, part) for part in parts
    )


def test_the_choice_is_deterministic_and_may_be_restricted():
    x, weight = outlier_layer()
    one, two = (choose_equalization(observe(x), [weight]) for _ in range(2))
    assert one.alpha == two.alpha
    np.testing.assert_array_equal(one.factors, two.factors)
    assert choose_equalization(observe(x), [weight], [0.5]).alpha == 0.5
    assert choose_equalization(observe(x), [weight], []).alpha is None


@pytest.mark.parametrize(("best", "trials"), [(0.15, 3), (0.3, 3), (0.5, 3), (0.65, 4), (0.95, 5)])
def test_the_valley_of_the_error_is_found_without_trying_every_alpha(monkeypatch, best, trials):
    tried = []

    def factors_of(size, largest, alpha):
        tried.append(alpha)
        return np.full(size.shape, alpha, np.float32)

    monkeypatch.setattr(smoothing, "equalization_factors", factors_of)
    monkeypatch.setattr(smoothing, "_least_error", lambda probe: 1 + abs(tried[-1] - best) if tried else 10.0)
    choice = choose_equalization(observe(normal(0, 50, 8)), [normal(1, 6, 8)])
    assert choice.alpha == best and len(tried) == trials


def test_zeros_are_left_alone():
    x, weight = outlier_layer()
    assert choose_equalization(observe(x * 0), [weight]).alpha is None
    assert choose_equalization(observe(x), [weight * 0]).alpha is None


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_equalized_statistics_are_those_of_the_equalized_input(seed):
    x, _ = outlier_layer(seed)
    factors = np.exp(normal(seed, 24)).astype(np.float32)
    found, true = equalized_stats(observe(x), factors), observe(x / factors)
    for name in ("channel_max", "rows", "histogram"):
        np.testing.assert_array_equal(getattr(found, name), getattr(true, name), err_msg=name)
    np.testing.assert_allclose(found.channel_mean, true.channel_mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.channel_power, true.channel_power, rtol=1e-4)
    assert (found.limit, found.count, min_max(found)) == (true.limit, true.count, min_max(true))


def test_equalized_statistics_keep_outliers_that_the_rows_miss():
    x, _ = outlier_layer(rows=5000)
    x[::500, 4] = 300.0
    factors = np.full(24, 2, np.float32)
    stats = observe(x, rows=20)
    assert np.abs(stats.rows[:, 4]).max() < 10
    found = equalized_stats(stats, factors)
    assert min_max(found) == 150
    largest_bin = int(150 / found.limit * found.histogram.size)
    assert 8 <= found.histogram[largest_bin] <= 12
    one_sided = equalized_stats(observe(np.abs(x)), factors)
    assert (one_sided.low, one_sided.high) == (0, 150)


def test_weights_that_do_not_fit_are_refused():
    x, weight = outlier_layer()
    with pytest.raises(PlanError, match=r"\(out, 24\).*\(40, 23\)"):
        choose_equalization(observe(x), [weight, weight[:, 1:]])
