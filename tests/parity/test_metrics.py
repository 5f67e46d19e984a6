from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.parity.metrics import (
    SQNR_LIMIT_DB,
    ClosenessSums,
    SignalNoise,
    cosine,
    kl_divergence,
    log_softmax,
    sample_closeness,
    signal_noise,
    sqnr_db,
)
from edgevit.types import Closeness


def pair(seed: int, samples: int = 12, classes: int = 5, noise: float = 0.1) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 3, (samples, classes)).astype(np.float32)
    return reference, (reference + rng.normal(0, noise, reference.shape)).astype(np.float32)


def whole(reference: NDArray, output: NDArray, *, scores: bool = True) -> Closeness:
    result = ClosenessSums().plus(sample_closeness(reference, output, scores=scores)).result()
    assert result is not None
    return result


# --------------------------------------------------------------------------------------------------- SQNR


def test_sqnr_is_the_ratio_of_energies_in_decibels() -> None:
    assert sqnr_db(np.array([10.0, 0.0]), np.array([9.0, 0.0])) == pytest.approx(20.0)
    assert sqnr_db(np.array([3.0, 4.0]), np.array([0.0, 0.0])) == pytest.approx(0.0)
    assert sqnr_db(np.array([1.0]), np.array([-1.0])) == pytest.approx(-10 * math.log10(4))


def test_sqnr_of_equal_outputs_is_the_limit_and_of_errors_on_zeros_its_negative() -> None:
    zeros, ones = np.zeros(3), np.ones(3)
    assert sqnr_db(ones, ones) == sqnr_db(zeros, zeros) == SQNR_LIMIT_DB
    assert sqnr_db(zeros, ones) == -SQNR_LIMIT_DB


def test_no_two_different_float32_outputs_reach_the_limit() -> None:
    reference = np.full(1_000_000, 1.0, dtype=np.float32)
    output = reference.copy()
    output[7] = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert 190 < sqnr_db(reference, output) < 210


@given(st.floats(1e-30, 1e30), st.integers(0, 1000))
def test_sqnr_does_not_depend_on_the_unit(factor: float, seed: int) -> None:
    reference, output = (side.astype(np.float64) for side in pair(seed))
    assert sqnr_db(factor * reference, factor * output) == pytest.approx(sqnr_db(reference, output), abs=1e-6)


def test_energies_of_parts_add_up_to_the_whole() -> None:
    reference, output = pair(0)
    parts = signal_noise(reference[:5], output[:5]) + signal_noise(reference[5:], output[5:])
    assert parts.db == pytest.approx(sqnr_db(reference, output), rel=1e-12)
    assert SignalNoise() + parts == parts


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_sqnr_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(InputError, match="finite"):
        sqnr_db(np.array([1.0, 2.0]), np.array([1.0, bad]))


def test_shapes_must_be_equal_even_where_they_would_broadcast() -> None:
    with pytest.raises(InputError, match=r"reference's shape \(2, 3\), found \(2, 1\)"):
        sqnr_db(np.ones((2, 3)), np.ones((2, 1)))


# --------------------------------------------------------------------------------------------- divergences


def test_kl_matches_the_definition() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    # Adding a constant to the scores does not change a softmax.
    assert kl_divergence(np.log(p)[None], np.log(q)[None] + 7.0)[0] == pytest.approx(expected, rel=1e-12)


def test_kl_of_huge_scores_is_finite() -> None:
    reference, output = np.array([[1e30, 0.0, -1e30]]), np.array([[0.0, 1e30, 5.0]])
    assert np.isfinite(log_softmax(output)).all()
    assert kl_divergence(reference, output)[0] == pytest.approx(1e30)
    assert kl_divergence(reference, reference)[0] == 0.0


@given(st.integers(0, 10_000), st.floats(0.0, 10.0))
def test_kl_is_never_negative_and_zero_only_for_the_same_distribution(seed: int, noise: float) -> None:
    reference, output = (side.astype(np.float64) for side in pair(seed, noise=noise))
    assert (kl_divergence(reference, output) >= 0.0).all()
    assert kl_divergence(reference, reference + 3.0) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 10_000), st.floats(1e-20, 1e20))
def test_cosine_is_symmetric_bounded_and_free_of_scale(seed: int, factor: float) -> None:
    reference, output = (side.astype(np.float64) for side in pair(seed, noise=2.0))
    similarity = cosine(reference, output)
    assert (np.abs(similarity) <= 1.0).all()
    assert similarity == pytest.approx(cosine(output, reference), abs=1e-12)
    assert similarity == pytest.approx(cosine(reference, factor * output), abs=1e-9)


def test_cosine_of_zero_rows_is_defined() -> None:
    rows, zeros = np.array([[1.0, 0.0]]), np.zeros((1, 2))
    assert cosine(zeros, zeros)[0] == 1.0
    assert cosine(rows, zeros)[0] == 0.0
    assert cosine(rows, -rows)[0] == -1.0


# ---------------------------------------------------------------------------------------------- closeness


def test_closeness_matches_whole_array_formulas() -> None:
    reference, output = pair(1)
    ref, out = reference.astype(np.float64), output.astype(np.float64)
    probabilities = [np.exp(side) / np.exp(side).sum(axis=1, keepdims=True) for side in (ref, out)]
    kl = (probabilities[0] * np.log(probabilities[0] / probabilities[1])).sum(axis=1)
    similarity = (ref * out).sum(axis=1) / np.linalg.norm(ref, axis=1) / np.linalg.norm(out, axis=1)
    result = whole(reference, output)
    assert result.sqnr_db == pytest.approx(10 * np.log10((ref**2).sum() / ((ref - out) ** 2).sum()))
    assert (result.kl_mean, result.kl_max) == (pytest.approx(kl.mean()), pytest.approx(kl.max()))
    assert result.cosine_mean == pytest.approx(similarity.mean())
    assert result.cosine_min == pytest.approx(similarity.min())
    assert result.max_abs_error == pytest.approx(np.abs(ref - out).max())


@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=8), st.booleans())
def test_any_split_into_batches_gives_the_whole_result(seed: int, sizes: list[int], scores: bool) -> None:
    reference, output = pair(seed, samples=sum(sizes))
    sums, start = ClosenessSums(), 0
    for size in sizes:
        rows = slice(start, start + size)
        sums = sums.plus(sample_closeness(reference[rows], output[rows], scores=scores))
        start += size
    found, expected = sums.result(), whole(reference, output, scores=scores)
    assert found is not None
    assert (found.kl_mean is not None) == scores
    figures = {name: value for name, value in msgspec.to_builtins(expected).items() if value is not None}
    assert {name: getattr(found, name) for name in figures} == pytest.approx(figures, rel=1e-9)


def test_perfect_closeness() -> None:
    reference, _ = pair(2)
    result = whole(reference, reference.copy())
    assert (result.sqnr_db, result.max_abs_error) == (SQNR_LIMIT_DB, 0.0)
    assert (result.kl_mean, result.kl_max) == (0.0, 0.0)
    assert result.cosine_min == pytest.approx(1.0, abs=1e-12)


def test_features_have_no_kl_and_may_have_any_shape() -> None:
    features = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    result = whole(features, features + 0.01, scores=False)
    assert (result.kl_mean, result.kl_max) == (None, None)
    assert result.cosine_min > 0.99


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_left_out_and_counted(bad: float) -> None:
    reference, output = pair(3)
    broken = output.copy()
    broken[4, 2] = bad
    closeness = sample_closeness(reference, broken, scores=True)
    assert closeness.finite.tolist() == [row != 4 for row in range(12)]
    others = np.arange(12) != 4
    result = ClosenessSums().plus(closeness).result()
    expected = whole(reference[others], output[others])
    assert result is not None
    assert msgspec.to_builtins(result) == pytest.approx(msgspec.to_builtins(expected))
    assert b"null" not in msgspec.json.encode(result)


def test_nothing_finite_has_no_closeness() -> None:
    reference, _ = pair(4)
    sums = ClosenessSums().plus(sample_closeness(reference, np.full_like(reference, np.nan), scores=True))
    assert sums.result() is None


def test_half_precision_outputs_are_compared_in_float64() -> None:
    reference = np.array([[60000.0, 1.0]], dtype=np.float32)
    assert whole(reference, reference.astype(np.float16)).max_abs_error == 0.0


def test_a_reference_that_is_not_finite_is_an_error() -> None:
    reference, output = pair(5)
    reference[3, 0] = np.nan
    with pytest.raises(InputError, match="row 3"):
        sample_closeness(reference, output, scores=True)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty_outputs_are_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least one value"):
        sample_closeness(np.zeros(shape), np.zeros(shape), scores=True)


def test_class_scores_are_a_matrix() -> None:
    with pytest.raises(InputError, match=r"\(batch, classes\)"):
        sample_closeness(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), scores=True)
