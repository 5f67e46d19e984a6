"""Streaming statistics of a layer's input, in memory that does not depend on the number of samples.

Everything is exact over every element seen: nothing is subsampled but the reservoir of rows. The result does not
depend on how the samples were cut into batches either (sums agree to float64 rounding, all else bit for bit),
because

- the histogram's limit is always a power of two, so growing it by doubling merges whole pairs of bins and no count
  ever lands in another bin than it would have with the final limit from the start;
- each row draws one random number in order of arrival and the rows with the smallest numbers are kept, which is a
  uniform sample without replacement however the rows arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import PlanError
from edgevit.quantize.histogram import SMALLEST_EXPONENT, count_magnitudes, limit_exponent
from edgevit.types import ChannelStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 15
"""Elements worked on at a time: the block and its scratch arrays (20 bytes per element) stay in a 1 MiB cache."""


class InputObserver:
    """Accumulates a layer's input, batch after batch; `result` may be taken at any time.

    `channels_axis` is -1 for a linear layer, whose input is (..., channels), and 1 for a convolution, whose input is
    (n, channels, height, width). `bins` is a power of two. `rows` bounds the sample of rows that is kept: a row is the
    vector of all channels at one position. `name` is the layer's parameter, for messages.
    """

    def __init__(self, name: str, *, channels_axis: int = -1, bins: int = 2048, rows: int = 256, seed: int = 0) -> None:
        if channels_axis not in (-1, 1):
            raise PlanError(f"layer '{name}': expected channels on axis -1 or 1, got {channels_axis}")
        if bins < 2 or bins & (bins - 1):
            raise PlanError(f"layer '{name}': expected a power of two of histogram bins, got {bins}")
        if rows < 1:
            raise PlanError(f"layer '{name}': expected to keep at least 1 row, got {rows}")
        self._name = name
        self._channels_axis = channels_axis
        self._histogram = np.zeros(bins, np.int64)
        self._exponent = SMALLEST_EXPONENT
        self._moments = _Moments()
        self._reservoir = _Reservoir(rows, seed)

    def update(self, array: NDArray[Any]) -> None:
        """Take in one batch of the layer's input, floating point. NaN or infinity is a PlanError naming the layer."""
        values = self._as_three_axes(array)
        if values.size == 0:
            return
        for block, over in _blocks(values):
            low, high = self._moments.add(block, over)
            largest = max(-low, high)
            if not math.isfinite(largest):
                raise PlanError(
                    f"layer '{self._name}': expected finite inputs, got NaN or infinity during calibration: "
                    "check the model's weights and the preprocessing"
                )
            self._grow(largest)
            self._histogram += count_magnitudes(block, self._exponent, self._histogram.size)
        self._reservoir.add(values)

    def result(self) -> ChannelStats:
        """The statistics so far. Before the first row it is a PlanError that names the layer."""
        moments = self._moments
        if moments.rows == 0:
            raise PlanError(
                f"layer '{self._name}': expected calibration samples, got none: give a set that is not empty"
            )
        return ChannelStats(
            low=float(moments.low.min()),
            high=float(moments.high.max()),
            limit=2.0**self._exponent,
            histogram=self._histogram.copy(),
            channel_max=np.maximum(np.abs(moments.low), np.abs(moments.high)),
            channel_mean=moments.sum / moments.rows,
            channel_power=moments.power / moments.rows,
            rows=self._reservoir.kept.copy(),
            count=moments.rows,
        )

    def _as_three_axes(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """(outer, channels, inner): inner is 1 for a linear layer, outer is the batch for a convolution."""
        least = 1 if self._channels_axis == -1 else 3
        if array.ndim < least or not np.issubdtype(array.dtype, np.floating):
            raise PlanError(
                f"layer '{self._name}': expected a floating point input of at least {least} axes, "
                f"got {array.dtype} of shape {array.shape}"
            )
        channels = array.shape[self._channels_axis]
        if self._moments.rows and channels != self._moments.low.size:
            raise PlanError(
                f"layer '{self._name}': expected {self._moments.low.size} channels, got shape {array.shape}"
            )
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity and is reported as such
            values = np.asarray(array, dtype=np.float32)
        if self._channels_axis == -1:
            return values.reshape(-1, channels, 1)
        return values.reshape(array.shape[0], channels, -1)

    def _grow(self, largest: float) -> None:
        """Double the histogram's limit until it exceeds `largest`; merged bins are summed, so no count is lost."""
        exponent = limit_exponent(largest)
        if exponent <= self._exponent:
            return
        merged = min(1 << (exponent - self._exponent), self._histogram.size)
        sums = self._histogram.reshape(-1, merged).sum(axis=1)
        self._histogram[: sums.size] = sums
        self._histogram[sums.size :] = 0
        self._exponent = exponent


class _Moments:
    """Smallest, largest, sum and sum of squares per channel, the last two in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.low: NDArray[np.float32] = np.empty(0, np.float32)
        self.high: NDArray[np.float32] = np.empty(0, np.float32)
        self.sum: NDArray[np.float64] = np.empty(0)
        self.power: NDArray[np.float64] = np.empty(0)

    def add(self, block: NDArray[np.float32], over: int) -> tuple[float, float]:
        """Take in one block, reducing the axis `over`; its own smallest and largest value (NaN if it holds one)."""
        low, high = block.min(axis=over), block.max(axis=over)
        wide = block.astype(np.float64)
        total = wide.sum(axis=over)
        np.multiply(wide, wide, out=wide)
        power = wide.sum(axis=over)
        if self.rows == 0:
            self.low, self.high, self.sum, self.power = low, high, total, power
        else:
            np.minimum(self.low, low, out=self.low)
            np.maximum(self.high, high, out=self.high)
            self.sum += total
            self.power += power
        self.rows += block.shape[over]
        return float(low.min()), float(high.max())


class _Reservoir:
    """A uniform sample without replacement of at most `size` rows, in order of arrival."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys: NDArray[np.float64] = np.empty(0)
        self.kept: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def add(self, values: NDArray[np.float32]) -> None:
        outer, _, inner = values.shape
        held = self._keys.size
        keys = np.concatenate([self._keys, self._random.random(outer * inner)])
        chosen = np.arange(keys.size)
        if keys.size > self._size:
            chosen = np.sort(np.argpartition(keys, self._size - 1)[: self._size])
        old, fresh = chosen[chosen < held], chosen[chosen >= held] - held
        arrived = values[fresh // inner, :, fresh % inner]
        if old.size < held or fresh.size:
            self.kept = np.concatenate([self.kept[old], arrived]) if held else np.ascontiguousarray(arrived)
        self._keys = keys[chosen]


def _blocks(values: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Two-dimensional pieces of (outer, channels, inner) that fit the cache, with the axis that is not the channels."""
    outer, channels, inner = values.shape
    step = max(1, _BLOCK // channels)
    if inner == 1:
        for start in range(0, outer, step):
            yield values[start : start + step, :, 0], 0
        return
    for image in values:
        for start in range(0, inner, step):
            yield image[:, start : start + step], 1
