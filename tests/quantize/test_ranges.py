"""The chosen ranges: never worse than what they were chosen from, and right where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import PlanError
from edgevit.quantize.histogram_ranges import NAMED_METHODS, min_max, named_range
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.output_error import error_at, prepare
from edgevit.quantize.ranges import choose_input_range, choose_weight_scales
from edgevit.quantize.scales import fake_quantize, scale_from_range


def observe(x, **options):
    observer = InputObserver("l", **options)
    observer.update(x.astype(np.float32))
    return observer.result()


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------- inputs


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 2.0, 4.0]))
def test_search_is_at_least_as_good_as_every_named_method(seed, tails):
    x = normal(seed, 300, 24)
    x = np.sign(x) * np.abs(x) ** tails
    weight = normal(seed + 1, 40, 24)
    stats, probe = observe(x), prepare(observe(x), [weight])
    threshold, method = choose_input_range(stats, weight)
    assert method.startswith("search:")
    assert 0 < threshold <= min_max(stats)
    for name in NAMED_METHODS:
        assert error_at(probe, threshold) <= error_at(probe, named_range(stats, name)) * 1.006


def test_an_outlier_channel_that_the_weight_ignores_is_clipped():
    x, weight = normal(0, 400, 16), normal(1, 32, 16)
    x[:, 5] *= 100
    kept, _ = choose_input_range(observe(x), weight)
    weight[:, 5] = 0
    clipped, _ = choose_input_range(observe(x), weight)
    assert clipped < 10 < 100 < kept


def test_frequent_outliers_that_the_rows_miss_are_not_clipped_away():
    x, weight = normal(0, 4000, 16), normal(1, 32, 16)
    x[::40, 2] = 20
    stats = next(stats for stats in (observe(x, rows=30, seed=s) for s in range(20)) if np.abs(stats.rows).max() < 6)
    assert choose_input_range(stats, weight)[0] > 15


def test_a_tie_goes_to_the_wider_range():
    x = normal(0, 100, 8)
    assert choose_input_range(observe(x), np.zeros((4, 8), np.float32)) == (min_max(observe(x)), "search:min-max")
    assert choose_input_range(observe(x * 0), normal(1, 4, 8)) == (0.0, "search:min-max")


def test_a_named_method_is_taken_as_it_is():
    stats, weight = observe(normal(0, 100, 8)), normal(1, 4, 8)
    for method in ("min-max", "percentile-99.9", "mse", "entropy"):
        assert choose_input_range(stats, weight, method) == (named_range(stats, method), method)
    with pytest.raises(PlanError, match="expected a range method"):
        choose_input_range(stats, weight, "best")


def test_the_weights_scales_count():
    x = np.random.default_rng(0).laplace(size=(300, 16))
    weight = normal(1, 32, 16)
    fine = choose_input_range(observe(x), weight)
    assert fine == choose_input_range(observe(x), weight, "search", scale_from_range(np.abs(weight).max(axis=1)))
    assert fine != choose_input_range(observe(x), weight, "search", np.full(32, 1.5, np.float32))


def test_a_convolution_has_a_range_too():
    images = np.random.default_rng(0).laplace(size=(4, 3, 32, 32))
    stats = observe(images, channels_axis=1)
    threshold, method = choose_input_range(stats, normal(1, 20, 3 * 64))
    assert 0.2 * min_max(stats) < threshold <= min_max(stats)
    assert method.startswith("search:")


# ------------------------------------------------------------------------------------------------ weights


def weighted_error(weight, scale, importance):
    error = weight.astype(np.float64) - fake_quantize(weight, scale, 0, narrow=True)
    return (error**2 * importance).sum(axis=1)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 70), st.sampled_from([1.0, 3.0]))
def test_searched_scales_are_as_good_as_trying_every_fraction(seed, outputs, inputs, tails):
    weight = normal(seed, outputs, inputs)
    weight = np.sign(weight) * np.abs(weight) ** np.float32(tails)
    importance = np.exp(normal(seed + 1, inputs)).astype(np.float64)
    found = choose_weight_scales(weight, importance)
    largest = np.abs(weight).max(axis=1)
    reached = weighted_error(weight, found.scale, importance)
    before = weighted_error(weight, scale_from_range(largest), importance)
    assert found.scale.dtype == np.float32
    assert found.scale.shape == (outputs,)
    assert (reached <= before * (1 + 1e-4) + 1e-12).all()
    grid = [weighted_error(weight, scale_from_range(largest * f), importance) for f in np.linspace(0.6, 1, 9)]
    assert (reached <= np.min(grid, axis=0) * (1 + 1e-3) + 1e-9).all()
    signal = (weight.astype(np.float64) ** 2 * importance).sum()
    assert found.error == pytest.approx(reached.sum() / signal, rel=1e-3, abs=1e-10)
    assert found.min_max_error == pytest.approx(before.sum() / signal, rel=1e-3, abs=1e-10)


def test_importance_decides_what_is_clipped():
    weight = normal(0, 6, 200) * 0.1
    weight[:, 0] = 1.0
    wide = choose_weight_scales(weight, np.where(np.arange(200) == 0, 1e4, 1.0)).scale
    narrow = choose_weight_scales(weight, np.where(np.arange(200) == 0, 0.0, 1.0)).scale
    np.testing.assert_allclose(wide, 1 / 127, rtol=0.05)
    assert (narrow < 0.7 / 127).all()


def test_blocks_do_not_matter():
    weight = normal(0, 300, 700)
    whole = choose_weight_scales(weight).scale
    pieces = [choose_weight_scales(weight[rows : rows + 1]).scale[0] for rows in range(0, 300, 37)]
    np.testing.assert_array_equal(whole[::37], pieces)


def test_a_convolutions_importance_is_per_channel():
    weight = normal(0, 4, 2, 3, 3)
    importance = np.array([1.0, 50.0])
    flat = choose_weight_scales(weight.reshape(4, 18), np.repeat(importance, 9))
    found = choose_weight_scales(weight, importance)
    np.testing.assert_array_equal(found.scale, flat.scale)
    assert found.error == flat.error


def test_zeros_and_mistakes():
    weight = np.zeros((3, 4), np.float32)
    weight[1] = [1, -2, 3, 127]
    found = choose_weight_scales(weight, np.zeros(4))
    assert found.scale[1] == 1
    assert found.error == 0
    assert (found.scale > 0).all()
    assert np.isfinite(found.scale).all()
    for wrong in (np.ones(3), -np.ones(4), np.full(4, np.nan)):
        with pytest.raises(PlanError, match="4 importances"):
            choose_weight_scales(weight, wrong)
