"""Tensors of ours that stay on the card between runs, and the pool that their memory comes from."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from edgevit.targets.nvidia.interface import Cuda

SMALLEST = 256
"""Bytes; the alignment that TensorRT asks of a tensor's address, and cudaMalloc gives."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A contiguous tensor on the card."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def row(self) -> int:
        """Bytes of one entry of the first dimension."""
        return prod(self.shape[1:]) * np.dtype(self.dtype).itemsize


class Pool:
    """Device memory in sizes of powers of two: a cache that grows by a token a step is seldom allocated anew."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._free: dict[int, list[int]] = {}
        """Pointers by their size."""
        self._taken: dict[int, int] = {}
        """Sizes by their pointer."""

    def take(self, shape: tuple[int, ...], dtype: str) -> Resident:
        """Memory with nothing of interest in it; raises OutOfDeviceMemory."""
        tensor = Resident(pointer=0, shape=shape, dtype=dtype)
        size = max(SMALLEST, 1 << (tensor.size - 1).bit_length() if tensor.size else 0)
        free = self._free.get(size)
        pointer = free.pop() if free else self._cuda.allocate(size)
        self._taken[pointer] = size
        return msgspec.structs.replace(tensor, pointer=pointer)

    def give(self, tensor: Resident) -> None:
        """What was taken comes back; work on it must be done, or be in the stream that uses it next."""
        self._free.setdefault(self._taken.pop(tensor.pointer), []).append(tensor.pointer)

    def close(self) -> None:
        """Frees everything, what was never given back included."""
        for pointer in (*self._taken, *(pointer for free in self._free.values() for pointer in free)):
            self._cuda.free(pointer)
        self._taken, self._free = {}, {}
