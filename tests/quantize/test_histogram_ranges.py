"""Ranges from a histogram against the same quantities computed from the data themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.errors import PlanError
from edgevit.quantize.histogram_ranges import (
    NAMED_METHODS,
    entropy,
    least_squares,
    mean_squared_error,
    min_max,
    named_range,
    percentile,
)
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.scales import fake_quantize, scale_from_range

values = st.floats(-1e6, 1e6, width=32)
columns = hnp.arrays(np.float32, st.tuples(st.integers(1, 80), st.just(1)), elements=values)


def observe(x, bins=2048):
    observer = InputObserver("l", bins=bins)
    observer.update(x)
    return observer.result()


def sample(kind, size=60_000):
    rng = np.random.default_rng(3)
    drawn = {
        "normal": rng.standard_normal(size),
        "uniform": rng.uniform(-2, 2, size),
        "laplace": rng.laplace(size=size),
        "gelu": np.maximum(rng.standard_normal(size), 0) ** 2,
        "outliers": rng.standard_normal(size) * np.where(rng.random(size) < 1e-3, 40, 1),
    }[kind]
    return drawn.astype(np.float32)[:, None]


def brute_force_error(x, threshold):
    return float(np.mean((x.astype(np.float64) - fake_quantize(x, scale_from_range(threshold))) ** 2))


@settings(max_examples=40)
@given(columns)
def test_min_max_is_the_largest_magnitude(x):
    assert min_max(observe(x)) == np.abs(x).max()


@settings(max_examples=40)
@given(columns, st.floats(0.01, 100))
def test_a_percentile_is_right_to_one_bin(x, share):
    stats = observe(x)
    # Rounding of share / 100 may move the wanted element by one.
    low, high = (np.percentile(np.abs(x), np.clip(share + d, 0, 100), method="inverted_cdf") for d in (-1e-9, 1e-9))
    width = stats.limit / stats.histogram.size
    assert low - width * 1.001 <= percentile(stats, share) <= high + width * 1.001
    assert percentile(stats, share) <= min_max(stats)


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "gelu", "outliers"])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_errors_from_the_histogram_are_those_of_the_data(kind, share):
    x = sample(kind)
    stats = observe(x)
    threshold = min_max(stats) * share
    # Densities vary inside a bin, most of all the first one of what has passed a GELU.
    assert mean_squared_error(stats, [threshold])[0] == pytest.approx(brute_force_error(x, threshold), rel=0.07)


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "gelu", "outliers"])
def test_least_squares_is_as_good_as_trying_everything(kind):
    x = sample(kind)
    stats = observe(x)
    found = least_squares(stats)
    best = min(brute_force_error(x, t) for t in min_max(stats) * np.linspace(0.02, 1, 120))
    assert brute_force_error(x, found) <= best * 1.03
    assert found <= min_max(stats) * (1 + 1e-12)


def test_least_squares_clips_where_it_pays_only():
    assert least_squares(observe(sample("laplace"))) < 0.9 * min_max(observe(sample("laplace")))
    assert least_squares(observe(sample("uniform"))) > 0.97 * min_max(observe(sample("uniform")))


def divergence_of(counts, bins):
    """The procedure of the TensorRT slides, one bin after the other."""
    reference = counts[:bins].astype(float)
    reference[-1] += counts[bins:].sum()
    coarse = np.zeros(bins)
    for level in range(128):
        start, stop = level * bins // 128, (level + 1) * bins // 128
        filled = [i for i in range(start, stop) if reference[i] > 0]
        for i in filled:
            coarse[i] = counts[start:stop].sum() / len(filled)
    p, q = reference / reference.sum(), coarse / coarse.sum()
    return sum(a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("kind", ["normal", "laplace", "outliers"])
def test_entropy_finds_the_least_divergence(kind):
    stats = observe(sample(kind), bins=512)
    found = entropy(stats) * 512 / stats.limit
    everything = {bins: divergence_of(stats.histogram, bins) for bins in range(128, 513, 3)}
    best = min(everything.values())
    assert divergence_of(stats.histogram, round(found)) <= best * 1.1 + 1e-4


def test_entropy_ignores_rare_outliers():
    stats = observe(sample("outliers"))
    assert percentile(stats, 99) < entropy(stats) < 0.5 * min_max(stats)


def test_entropy_of_few_occupied_bins_is_min_max():
    stats = observe(np.array([[0.0], [1.0], [1.5]]), bins=64)
    assert entropy(stats) == 1.5


@settings(max_examples=40)
@given(columns, st.sampled_from(NAMED_METHODS), st.sampled_from([2, 128, 2048]))
def test_every_method_gives_a_range_that_can_be_used(x, method, bins):
    stats = observe(x, bins)
    threshold = named_range(stats, method)
    assert 0 <= threshold <= min_max(stats) * (1 + 1e-9)
    assert scale_from_range(threshold) > 0
    if min_max(stats) == 0:
        assert threshold == 0


def test_names():
    stats = observe(sample("normal"))
    assert named_range(stats, "percentile-99.9") == percentile(stats, 99.9)
    assert named_range(stats, "percentile-42") == percentile(stats, 42)
    assert named_range(stats, "mse") == least_squares(stats)
    assert named_range(stats, "entropy") == entropy(stats)
    for wrong in ("kl", "percentile", "percentile-", "percentile-0", "percentile-101", "percentile-x", ""):
        with pytest.raises(PlanError, match="expected a range method"):
            named_range(stats, wrong)
