"""The estimated error of a layer's output against the exact one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import PlanError
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.output_error import error_at, prepare
from edgevit.quantize.scales import fake_quantize, scale_from_range


def observe(x, rows=256, seed=0):
    observer = InputObserver("l", rows=rows, seed=seed)
    observer.update(x)
    return observer.result()


def layer(seed, outputs, channels, rows=100):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, channels)) * np.exp(rng.standard_normal(channels))
    return observe(x.astype(np.float32)), (rng.standard_normal((outputs, channels)) * 0.1).astype(np.float32)


def relative(wanted, error):
    """The formula at the top of the module, from exact outputs and errors: (rows, outputs) each."""
    size, lost = (np.square(array, dtype=np.float64).sum(axis=1) for array in (wanted, error))
    weights = 1 / (size + np.median(size))
    return (lost * weights).sum() / (size * weights).sum()


def exact(stats, weights, threshold):
    wanted, error = [], []
    x = fake_quantize(stats.rows, scale_from_range(threshold)).astype(np.float64)
    for weight in weights:
        quantized = fake_quantize(weight, scale_from_range(np.abs(weight).max(axis=1)), 0, narrow=True)
        wanted.append(stats.rows.astype(np.float64) @ weight.T)
        error.append(wanted[-1] - x @ quantized.T)
    return relative(np.hstack(wanted), np.hstack(error))


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 128), st.integers(1, 40), st.floats(0.05, 1))
def test_up_to_128_outputs_the_error_is_exact(seed, outputs, channels, share):
    stats, weight = layer(seed, outputs, channels)
    threshold = float(np.abs(stats.rows).max()) * share
    found = error_at(prepare(stats, [weight]), threshold)
    assert found == pytest.approx(exact(stats, [weight], threshold), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("outputs", [[300], [1000], [700, 700, 700]])
@pytest.mark.parametrize("share", [1, 0.5, 0.1])
def test_beyond_the_error_is_estimated(outputs, share):
    stats, _ = layer(1, 1, 60)
    weights = [layer(seed, count, 60)[1] for seed, count in enumerate(outputs)]
    threshold = float(np.abs(stats.rows).max()) * share
    found = error_at(prepare(stats, weights), threshold)
    assert found == pytest.approx(exact(stats, weights, threshold), rel=0.15)


def test_the_estimate_is_deterministic():
    stats, weight = layer(1, 500, 20)
    assert error_at(prepare(stats, [weight]), 1.0) == error_at(prepare(stats, [weight]), 1.0)


def test_given_weight_scales_are_used():
    stats, weight = layer(1, 50, 20)
    threshold = float(np.abs(stats.rows).max())
    default = scale_from_range(np.abs(weight).max(axis=1))
    assert error_at(prepare(stats, [weight], [default]), threshold) == error_at(prepare(stats, [weight]), threshold)
    coarse = error_at(prepare(stats, [weight], [default * 20]), threshold)
    assert coarse > 10 * error_at(prepare(stats, [weight]), threshold)


def test_a_convolution_adds_the_errors_of_its_kernel_positions():
    stats, _ = layer(2, 1, 3, rows=250)
    weight = np.random.default_rng(0).standard_normal((40, 3 * 16)).astype(np.float32)
    scale = scale_from_range(np.abs(weight).max(axis=1))
    quantized = fake_quantize(weight, scale, 0, narrow=True)
    threshold = 0.3 * float(np.abs(stats.rows).max())
    x = fake_quantize(stats.rows, scale_from_range(threshold))
    wanted = np.hstack([stats.rows @ weight[:, position::16].T for position in range(16)])
    found = np.hstack([x @ quantized[:, position::16].T for position in range(16)])
    assert error_at(prepare(stats, [weight]), threshold) == pytest.approx(relative(wanted, wanted - found), rel=0.2)


def test_a_massive_row_counts_by_its_own_size():
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    weight = np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32)
    x[5] *= 300
    probe = prepare(observe(x), [weight])
    # One row of 200 is lost, against all the others lost for the sake of that one.
    assert error_at(probe, 4.0) < 0.02
    assert error_at(probe, float(np.abs(x).max())) > 0.3


def test_clipping_that_the_rows_do_not_show_is_counted():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 16)).astype(np.float32)
    x[::40, 3] = 40.0  # one token in 40 has a massive activation
    weight = rng.standard_normal((64, 16)).astype(np.float32)
    stats = next(stats for stats in (observe(x, 30, seed) for seed in range(20)) if np.abs(stats.rows).max() < 10)
    everything = prepare(observe(x, rows=4000), [weight])
    for threshold in (5.0, 20.0):
        assert error_at(prepare(stats, [weight]), threshold) == pytest.approx(error_at(everything, threshold), rel=0.3)
    blind = msgspec.structs.replace(stats, channel_max=np.abs(stats.rows).max(axis=0))
    assert error_at(prepare(blind, [weight]), 5.0) < 0.1 * error_at(prepare(stats, [weight]), 5.0)


def test_zeros_cost_nothing():
    stats = observe(np.zeros((5, 4)))
    assert error_at(prepare(stats, [np.ones((3, 4), np.float32)]), 0.0) == 0
    live, _ = layer(1, 1, 4)
    assert error_at(prepare(live, [np.zeros((3, 4), np.float32)]), 0.1) == 0


def test_misuse_is_refused():
    stats, weight = layer(1, 6, 4)
    with pytest.raises(PlanError, match=r"expected a weight of shape \(out, 4"):
        prepare(stats, [weight[:, :3]])
    with pytest.raises(PlanError, match="got none"):
        prepare(stats, [])
