"""Scales under which no pair of neighbouring codes can overflow an int16 accumulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.quantize.saturation import PAIR_LIMIT, pair_safe_scales, seven_bit_scales
from edgevit.quantize.scales import quantize, scale_from_range

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-1e3, 1e3, width=32),
)
shrink = st.floats(0.3, 1.0)
"""A search may clip weights: its scale is then below min-max's."""


def min_max(weight):
    return scale_from_range(np.abs(weight).max(axis=1))


def codes(weight, scale):
    return quantize(weight, scale, 0, narrow=True).astype(int)


def pairs(weight, scale):
    padded = np.pad(codes(weight, scale), ((0, 0), (0, weight.shape[1] % 2)))
    return np.abs(padded[:, 0::2] + padded[:, 1::2])


@given(weights, shrink)
def test_no_pair_exceeds_the_limit_and_no_scale_shrinks(weight, fraction):
    scale = min_max(weight) * np.float32(fraction)
    safe = pair_safe_scales(weight, scale)
    assert safe.dtype == np.float32
    assert (safe >= scale).all()
    assert pairs(weight, safe).max() <= PAIR_LIMIT


@given(weights, shrink)
def test_seven_bits_hold_whatever_the_order(weight, fraction):
    scale = min_max(weight) * np.float32(fraction)
    safe = seven_bit_scales(weight, scale)
    assert (safe >= scale).all()
    assert np.abs(codes(weight, safe)).max() <= 64


@given(weights)
def test_the_accumulator_does_not_overflow(weight):
    """Unsigned activations up to 255 times two neighbouring codes, added in int16."""
    extremes = 255 * pairs(weight, pair_safe_scales(weight, min_max(weight)))
    assert extremes.max() < 2**15


def test_the_worst_case_really_exceeds_it_without():
    weight = np.array([[1.0, 1.0], [1.0, -1.0], [0.1, 1.0]], np.float32)
    scale = min_max(weight)
    assert pairs(weight, scale).max() == 254
    safe = pair_safe_scales(weight, scale)
    # Only the row whose neighbours add up pays: twice the scale; codes of opposite sign cannot overflow.
    np.testing.assert_allclose(safe / scale, [2, 1, 1.1], rtol=1e-3)


def test_a_scale_that_is_large_enough_stays():
    weight = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    scale = min_max(weight) * np.float32(4)
    np.testing.assert_array_equal(pair_safe_scales(weight, scale), scale)
    np.testing.assert_array_equal(seven_bit_scales(weight, scale), scale)


def test_normal_weights_pay_less_than_seven_bits_would():
    weight = np.random.default_rng(0).normal(size=(64, 768)).astype(np.float32)
    scale = min_max(weight)
    paid = float((pair_safe_scales(weight, scale) / scale).mean())
    assert 1.1 < paid < 1.5
    assert float((seven_bit_scales(weight, scale) / scale).mean()) > 1.9


def test_rows_of_zeros_and_a_single_column():
    assert (pair_safe_scales(np.zeros((2, 3), np.float32), min_max(np.zeros((2, 3), np.float32))) > 0).all()
    assert codes(np.ones((1, 1), np.float32), pair_safe_scales(np.ones((1, 1), np.float32), np.float32([1e-3]))) <= 128
