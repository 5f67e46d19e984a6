"""The streaming observer against the same statistics computed at once from everything it saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.errors import PlanError
from edgevit.quantize.observers import InputObserver

values = st.floats(width=32, allow_nan=False, allow_infinity=False)
tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 5)), elements=values)


def observe(pieces, **options):
    observer = InputObserver("blocks.0.fc1.weight", **options)
    for piece in pieces:
        observer.update(piece)
    return observer.result()


def assert_same(one, two):
    for name in ("low", "high", "limit", "count"):
        assert getattr(one, name) == getattr(two, name), name
    for name in ("histogram", "channel_max", "rows"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_allclose(one.channel_power, two.channel_power, rtol=1e-12)
    # Sums of opposite signs cancel: the bound is relative to what was summed.
    slack = 1e-12 * one.channel_max.astype(np.float64)
    assert (np.abs(one.channel_mean - two.channel_mean) <= slack).all()


@settings(max_examples=40)
@given(tables, st.data())
def test_the_result_is_exact_and_does_not_depend_on_the_batches(x, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=6)))
    stats = observe(np.split(x, cuts), bins=64, rows=7, seed=3)
    assert_same(stats, observe([x], bins=64, rows=7, seed=3))

    wide = x.astype(np.float64)
    assert (stats.low, stats.high, stats.count) == (x.min(), x.max(), len(x))
    np.testing.assert_array_equal(stats.channel_max, np.abs(x).max(axis=0))
    np.testing.assert_allclose(stats.channel_power, (wide**2).mean(axis=0), rtol=1e-12)
    assert (np.abs(stats.channel_mean - wide.mean(axis=0)) <= 1e-12 * np.abs(wide).max(axis=0)).all()
    assert stats.limit > np.abs(wide).max()
    assert stats.limit <= max(2 * np.abs(wide).max(), 2.0**-100)
    expected, _ = np.histogram(np.abs(wide), bins=np.arange(65) * (stats.limit / 64))
    np.testing.assert_array_equal(stats.histogram, expected)
    assert stats.rows.dtype == np.float32
    assert stats.rows.shape == (min(7, len(x)), x.shape[1])


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([(3, 4, 50, 2), (40, 3), (5, 6, 8)]))
def test_large_inputs_are_cut_into_blocks_without_loss(seed, shape):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((*shape[:-1], shape[-1] * 700)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    stats = observe([x])
    table = x.reshape(-1, x.shape[-1]).astype(np.float64)
    assert stats.histogram.sum() == x.size
    assert stats.count == len(table)
    np.testing.assert_allclose(stats.channel_mean, table.mean(axis=0), atol=1e-9 * np.abs(table).max())
    np.testing.assert_allclose(stats.channel_power, (table**2).mean(axis=0), rtol=1e-10)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 300))
def test_a_convolution_is_a_linear_layer_over_its_positions(seed, channels, width):
    image = np.random.default_rng(seed).standard_normal((2, channels, 150, width)).astype(np.float32)
    assert_same(
        observe([image[:1], image[1:]], channels_axis=1, rows=11),
        observe([image.transpose(0, 2, 3, 1)], rows=11),
    )


def test_the_histogram_grows_when_later_batches_are_larger():
    stats = observe([np.full((4, 1), 0.75), np.full((2, 1), -700.0)], bins=8)
    assert stats.limit == 1024
    np.testing.assert_array_equal(stats.histogram, [4, 0, 0, 0, 0, 2, 0, 0])


def test_rows_come_from_everything_seen_with_equal_chance():
    # 400 runs keep 5 of 50 rows each: every row is expected 40 times with a standard deviation of 6.
    hits = np.zeros(50)
    x = np.arange(50, dtype=np.float32)[:, None]
    for seed in range(400):
        hits[observe(np.split(x, [1, 4, 30]), rows=5, seed=seed).rows[:, 0].astype(int)] += 1
    assert hits.sum() == 2000
    assert np.abs(hits - 40).max() < 4.5 * 6
    chi_square = ((hits - 40) ** 2 / 40).sum()
    assert 20 < chi_square < 90


def test_the_seed_decides_the_rows():
    x = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    same = [observe([x], rows=9, seed=5).rows for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], observe([x], rows=9, seed=6).rows)


def test_memory_does_not_grow_with_the_samples():
    def held(observer):
        arrays = [vars(observer._moments), vars(observer._reservoir), vars(observer)]
        return sum(a.nbytes for group in arrays for a in group.values() if isinstance(a, np.ndarray))

    x = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    observer = InputObserver("fc", rows=16)
    observer.update(x)
    once = held(observer)
    assert once > 16 * 6 * 4
    for _ in range(20):
        observer.update(x * 3)
    assert held(observer) == once


def test_the_rows_do_not_keep_the_batch_alive():
    x = np.ones((4, 3), np.float32)
    observer = InputObserver("fc")
    observer.update(x)
    x[:] = 9
    assert observer.result().rows.max() == 1


def test_zeros_are_counted():
    stats = observe([np.zeros((6, 2))])
    assert (stats.low, stats.high) == (0, 0)
    assert stats.histogram[0] == 12
    assert stats.limit > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused_with_the_layer_named(bad):
    x = np.zeros((3, 4))
    x[1, 2] = bad
    with pytest.raises(PlanError, match=r"blocks\.0\.fc1\.weight.*NaN or infinity"):
        observe([x])


def test_misuse_is_refused_with_the_layer_named():
    with pytest.raises(PlanError, match=r"blocks\.0\.fc1\.weight.*got none"):
        observe([])
    with pytest.raises(PlanError, match=r"blocks\.0\.fc1\.weight.*got none"):
        observe([np.zeros((0, 3))])
    with pytest.raises(PlanError, match=r"blocks\.0\.fc1\.weight.*expected 3 channels"):
        observe([np.zeros((1, 3)), np.zeros((1, 4))])
    with pytest.raises(PlanError, match=r"blocks\.0\.fc1\.weight.*int64"):
        observe([np.zeros((1, 3), np.int64)])
    with pytest.raises(PlanError, match="at least 3 axes"):
        observe([np.zeros((1, 3))], channels_axis=1)
    with pytest.raises(PlanError, match="power of two"):
        observe([], bins=100)
    with pytest.raises(PlanError, match="at least 1 row"):
        observe([], rows=0)
    with pytest.raises(PlanError, match="axis"):
        observe([], channels_axis=2)
