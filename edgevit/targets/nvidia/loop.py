"""A decoder called once a token on a card: its caches stay there, only tokens go in and logits come out."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from edgevit.targets.base import ClosedSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgevit.targets.nvidia.lane import Lane
    from edgevit.targets.nvidia.resident import Resident
    from edgevit.types import Arrays

    Part = dict[str, Resident]
    """Inputs of at most as many rows as the engine's profile takes."""


class NvidiaLoop:
    """A `Loop` over a lane of a session; `close` hands it to `release`. Rows beyond the profile run in parts."""

    def __init__(
        self, lane: Lane, fed: dict[str, str], inputs: Arrays, largest: int | None, release: Callable[[Lane], None]
    ) -> None:
        self._lane: Lane | None = lane
        self._fed = fed
        self._carried = frozenset(fed.values())
        count = len(next(iter(inputs.values())))
        self._largest = largest or count
        self._parts: list[Part] = []
        self._release = release
        try:
            for start in range(0, count, self._largest):
                part: Part = {}
                self._parts.append(part)
                for name, array in inputs.items():
                    part[name] = lane.upload(array[start : start + self._largest])
        except BaseException:
            self._give()
            raise

    def step(self, inputs: Arrays) -> Arrays:
        lane = self._open()
        results: list[Arrays] = []
        start = 0
        for part in self._parts:
            rows = _rows(part)
            new = {name: array[start : start + rows] for name, array in inputs.items()}
            outputs, kept = lane.run_resident({**part, **new}, self._fed)
            for output, name in self._fed.items():
                lane.give(part[name])
                part[name] = kept[output]
            results.append(outputs)
            start += rows
        if len(results) == 1:
            return results[0]
        return {name: np.concatenate([outputs[name] for outputs in results]) for name in results[0]}

    def select(self, rows: NDArray[np.int64], *, constant: bool) -> None:
        lane = self._open()
        places = list(chain.from_iterable([(part, row) for row in range(_rows(part))] for part in self._parts))
        chosen = [places[row] for row in rows.tolist()]
        groups = [chosen[start : start + self._largest] for start in range(0, len(chosen), self._largest)]
        # Fixed inputs that stay as they are keep their parts: the rows are then as many as before.
        moved = [name for name in self._parts[0] if constant or name in self._carried]
        after: list[Part] = []
        try:
            for group in groups:
                part: Part = {}
                after.append(part)
                for name in moved:
                    part[name] = lane.gather([(source[name], row) for source, row in group])
        except BaseException:
            for tensor in chain.from_iterable(part.values() for part in after):
                lane.give(tensor)
            raise
        for part, before in zip(after, self._parts, strict=False):
            part.update({name: tensor for name, tensor in before.items() if name not in moved})
        for before in self._parts:
            for name in moved:
                lane.give(before[name])
        self._parts = after

    def close(self) -> None:
        """The lane goes back; safe to call twice."""
        if self._lane is not None:
            self._give()
            self._release(self._lane)
        self._lane = None

    def _open(self) -> Lane:
        if self._lane is None:
            raise ClosedSession("a loop")
        return self._lane

    def _give(self) -> None:
        assert self._lane is not None
        for tensor in chain.from_iterable(part.values() for part in self._parts):
            self._lane.give(tensor)
        self._parts = []


def _rows(part: Part) -> int:
    return next(iter(part.values())).shape[0]
