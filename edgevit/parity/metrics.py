"""How close outputs are to the reference's: SQNR, cosine, KL divergence, largest error.

Arrays are compared sample by sample (first axis) in float64; sums over samples are frozen values that add up, so
memory never grows with the number of samples. No result is ever NaN or infinite: a sample whose output is not finite
is counted and left out of the sums, and the exact and zero cases are defined below.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from edgevit.errors import InputError
from edgevit.types import Closeness, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray: TypeAlias = NDArray[np.bool_]
    Float64Array: TypeAlias = NDArray[np.float64]

SQNR_LIMIT_DB = 300.0
"""Stands for an infinite SQNR, which JSON cannot hold; no two different float32 outputs come near it."""

LARGEST = float(np.finfo(np.float32).max)
"""Values beyond float32's range count as not finite; within it no square overflows float64."""


class SignalNoise(Value, frozen=True, kw_only=True):
    """Energies of a reference and of the error against it; they add up over batches."""

    signal: float = 0.0
    """Sum of reference²."""
    noise: float = 0.0
    """Sum of (reference - output)²."""

    def __add__(self, other: SignalNoise) -> SignalNoise:
        return SignalNoise(signal=self.signal + other.signal, noise=self.noise + other.noise)

    @property
    def db(self) -> float:
        """10 log10(signal / noise), within +-300: 300 where the outputs are equal, -300 for any error on zeros."""
        if self.noise == 0.0:
            return SQNR_LIMIT_DB
        if self.signal == 0.0:
            return -SQNR_LIMIT_DB
        ratio = 10.0 * (math.log10(self.signal) - math.log10(self.noise))
        return max(-SQNR_LIMIT_DB, min(SQNR_LIMIT_DB, ratio))


def signal_noise(reference: NDArray[Any], output: NDArray[Any]) -> SignalNoise:
    """Energies over all elements of two arrays of one shape; InputError unless both are finite."""
    expected, found = _rows("output", reference, output)
    if not (finite_rows(expected).all() and finite_rows(found).all()):
        raise InputError(
            "expected finite values on both sides of an SQNR, found NaN, infinite or beyond float32's range"
        )
    return SignalNoise(signal=float(np.sum(expected**2)), noise=float(np.sum((expected - found) ** 2)))


def sqnr_db(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """Signal to quantization noise ratio of two arrays of one shape, dB; see `SignalNoise.db` for the limits."""
    return signal_noise(reference, output).db


def log_softmax(scores: Float64Array) -> Float64Array:
    """Logarithm of the softmax over the last axis; finite for all finite scores because the largest is taken out."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)), dtype=np.float64)


def kl_divergence(reference: Float64Array, output: Float64Array) -> Float64Array:
    """KL(softmax(reference) ‖ softmax(output)) per row, nats, at least 0; scores of shape (batch, classes)."""
    expected, found = log_softmax(reference), log_softmax(output)
    divergence = np.sum(np.exp(expected) * (expected - found), axis=-1)
    return np.asarray(np.maximum(divergence, 0.0), dtype=np.float64)


def cosine(reference: Float64Array, output: Float64Array) -> Float64Array:
    """Cosine per row of (batch, values), in [-1, 1]; two zero rows are equal (1), one zero row tells nothing (0)."""
    lengths = np.linalg.norm(reference, axis=-1), np.linalg.norm(output, axis=-1)
    both_zero = (lengths[0] == 0.0) & (lengths[1] == 0.0)
    # Each row is divided by its own length first: the product of two lengths may leave the range, these cannot.
    directions = [
        np.divide(rows, length[:, None], out=np.zeros_like(rows), where=length[:, None] > 0.0)
        for rows, length in zip((reference, output), lengths, strict=True)
    ]
    return np.where(both_zero, 1.0, np.clip(np.sum(directions[0] * directions[1], axis=-1), -1.0, 1.0))


def finite_rows(rows: NDArray[Any]) -> BoolArray:
    """Which rows of (batch, values) hold only finite values within float32's range, shape (batch,)."""
    # A comparison with NaN is False, so one pass finds NaN, infinity and overflow.
    return np.asarray(np.all(np.abs(rows) <= LARGEST, axis=-1), dtype=np.bool_)


class SampleCloseness(msgspec.Struct, frozen=True, kw_only=True):
    """One batch, one entry per sample, all float64 of shape (batch,); 0 where `finite` is False."""

    finite: BoolArray
    signal: Float64Array
    noise: Float64Array
    cosine: Float64Array
    max_abs: Float64Array
    kl: Float64Array | None
    """Nats; None where the outputs are no class scores."""


def sample_closeness(reference: NDArray[Any], output: NDArray[Any], *, scores: bool) -> SampleCloseness:
    """Compares a batch sample by sample; arrays of one shape (batch, ...), with `scores` (batch, classes).

    Raises InputError for shapes that differ and for a reference that is not finite: nothing can be compared with it.
    """
    expected, found = _rows("build's output", reference, output)
    if scores and reference.ndim != 2:
        raise InputError(f"expected class scores of shape (batch, classes), found shape {reference.shape}")
    if not finite_rows(expected).all():
        row = int(np.argmin(finite_rows(expected)))
        raise InputError(
            f"expected finite outputs of the float reference, found NaN or infinity in row {row} of a batch"
        )
    finite = finite_rows(found)
    found = np.where(finite[:, None], found, 0.0)
    error = np.where(finite[:, None], expected - found, 0.0)
    return SampleCloseness(
        finite=finite,
        signal=np.where(finite, np.sum(expected**2, axis=-1), 0.0),
        noise=np.sum(error**2, axis=-1),
        cosine=np.where(finite, cosine(expected, found), 0.0),
        max_abs=np.max(np.abs(error), axis=-1, initial=0.0),
        kl=np.where(finite, kl_divergence(expected, found), 0.0) if scores else None,
    )


def _rows(what: str, reference: NDArray[Any], output: NDArray[Any]) -> tuple[Float64Array, Float64Array]:
    if reference.shape != output.shape:
        raise InputError(f"expected the {what} in the reference's shape {reference.shape}, found {output.shape}")
    if reference.size == 0 or reference.ndim == 0:
        raise InputError(f"expected outputs of shape (batch, ...) with at least one value, found {reference.shape}")
    flat = (reference.shape[0], -1)
    return reference.astype(np.float64).reshape(flat), output.astype(np.float64).reshape(flat)


class ClosenessSums(Value, frozen=True, kw_only=True):
    """What is kept of all batches so far: a dozen numbers, whatever the number of samples."""

    samples: int = 0
    """Samples with finite outputs; the others are in no sum."""
    energies: SignalNoise = SignalNoise()
    cosine_sum: float = 0.0
    cosine_min: float = 1.0
    max_abs: float = 0.0
    kl_sum: float | None = None
    kl_max: float | None = None

    def plus(self, batch: SampleCloseness) -> ClosenessSums:
        finite = batch.finite
        if not finite.any():
            return self
        kl = None if batch.kl is None else batch.kl[finite]
        return self + ClosenessSums(
            samples=int(finite.sum()),
            energies=SignalNoise(signal=float(batch.signal.sum()), noise=float(batch.noise.sum())),
            cosine_sum=float(batch.cosine[finite].sum()),
            cosine_min=float(batch.cosine[finite].min()),
            max_abs=float(batch.max_abs.max()),
            kl_sum=None if kl is None else float(kl.sum()),
            kl_max=None if kl is None else float(kl.max()),
        )

    def __add__(self, other: ClosenessSums) -> ClosenessSums:
        """Of both; sums without samples know nothing and change nothing."""
        if not other.samples or not self.samples:
            return self if self.samples else other
        return ClosenessSums(
            samples=self.samples + other.samples,
            energies=self.energies + other.energies,
            cosine_sum=self.cosine_sum + other.cosine_sum,
            cosine_min=min(self.cosine_min, other.cosine_min),
            max_abs=max(self.max_abs, other.max_abs),
            kl_sum=None if other.kl_sum is None else (self.kl_sum or 0.0) + other.kl_sum,
            kl_max=None if other.kl_max is None else max(self.kl_max or 0.0, other.kl_max),
        )

    def result(self) -> Closeness | None:
        """Closeness over the finite samples; None where there was none."""
        if self.samples == 0:
            return None
        return Closeness(
            sqnr_db=self.energies.db,
            cosine_mean=min(1.0, self.cosine_sum / self.samples),
            cosine_min=self.cosine_min,
            kl_mean=None if self.kl_sum is None else self.kl_sum / self.samples,
            kl_max=self.kl_max,
            max_abs_error=self.max_abs,
        )
