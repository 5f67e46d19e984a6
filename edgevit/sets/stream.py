"""Samples that the user's code gives one after the other, again in every pass, so that none has to be kept."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from edgevit.errors import SetError
from edgevit.sets.sample import ItemSource, Kind, Sample, TensorSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgevit.types import FloatArray

_KEPT = 8
"""Items that have just gone by: who reads two samples out of their order does not begin anew."""


class Stream:
    """The items of an iterable by their place. Reading goes on from the last place, or begins anew for an earlier one.

    `around` wraps every call of the user's code. One thread reads at a time.
    """

    def __init__(
        self, where: str, again: Callable[[], Iterable[Any]], around: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.where = where
        self._again = again
        self._around = around
        self._lock = threading.Lock()
        self._iterator: Iterator[Any] | None = None
        self._next = 0
        self._kept: deque[tuple[int, Any]] = deque(maxlen=_KEPT)

    def items(self) -> Iterator[Any]:
        """All of them, once; what is read by place meanwhile is another pass."""
        with self._around():
            iterator = iter(self._again())
        while True:
            with self._around():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def item(self, place: int) -> Any:
        """Without its label. Raises SetError where a pass ends before it, or the user's code raises."""
        with self._lock:
            for known, item in self._kept:
                if known == place:
                    return item
            if self._iterator is None or place < self._next:
                self._iterator, self._next = self.items(), 0
                self._kept.clear()
            for given in self._iterator:
                item = given[0] if isinstance(given, tuple) and len(given) == 2 else given
                self._kept.append((self._next, item))
                self._next += 1
                if self._next > place:
                    return item
            self._iterator = None
            raise SetError(_other_samples(self.where, place, "its end"))


class StreamedImage(msgspec.Struct, frozen=True, eq=False):
    """An image that is read by going on, or through the code once more."""

    stream: Stream
    place: int
    digest: str
    """Of the sample, as it was first seen; empty where it could not be read."""

    kind: ClassVar[Kind] = "image"
    in_order: ClassVar[bool] = True
    """Several threads would make each other begin anew."""

    def read(self) -> Image:
        source = ItemSource(self.stream.item(self.place))
        if self.digest and Sample("", source).digest != self.digest:
            raise SetError(_other_samples(self.stream.where, self.place, "another"))
        return source.read()


class StreamedTensor(msgspec.Struct, frozen=True, eq=False):
    """The same of a prepared tensor."""

    stream: Stream
    place: int
    digest: str

    kind: ClassVar[Kind] = "tensor"
    in_order: ClassVar[bool] = True

    def read(self) -> FloatArray:
        source = TensorSource(np.asarray(self.stream.item(self.place), dtype=np.float32))
        if source.digest != self.digest:
            raise SetError(_other_samples(self.stream.where, self.place, "another"))
        return source.row


def _other_samples(where: str, place: int, found: str) -> str:
    return (
        f"{where}: expected the same samples in every pass over it, found {found} at number {place}; give random "
        "choices a seed, or return a list, or one and the same iterator at every call to have it sampled once"
    )
