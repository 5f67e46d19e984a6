"""A stratified choice from a stream that comes only once, holding little more than what is chosen."""

from __future__ import annotations

from bisect import insort
from typing import Generic, TypeVar

import msgspec

from edgevit.sets.select import quotas, rank

Row = TypeVar("Row")


class Wanted(msgspec.Struct, frozen=True):
    """How many samples are asked for, and the seed that chooses them."""

    count: int
    seed: int = 0


class Reservoir(Generic[Row]):
    """Holds the rows of each label that come first in a random order which the seed fixes, in proportion to its share.

    The order is a hash of seed and place, as in `select.take`: the choice is the same however the stream is cut. A
    label's share may still grow while it comes, so twice its part is held: at most three times `wanted.count` rows, and
    three for each label.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._groups: dict[str, list[tuple[bytes, int, Row]]] = {}
        self._sizes: dict[str, int] = {}
        self._held = 0

    def add(self, label: str, place: int, row: Row) -> None:
        group = self._groups.setdefault(label, [])
        self._sizes[label] = self._sizes.get(label, 0) + 1
        insort(group, (rank(self._wanted.seed, str(place)), place, row))
        self._held += 1
        if len(group) > self._wanted.count:
            group.pop()
            self._held -= 1
        if self._held > 3 * (self._wanted.count + len(self._groups)):
            self._shrink()

    def _shrink(self) -> None:
        total = sum(self._sizes.values())
        for label, group in self._groups.items():
            part = -(-self._wanted.count * self._sizes[label] // total)
            del group[2 * part + 1 :]
        self._held = sum(map(len, self._groups.values()))

    def chosen(self) -> list[Row]:
        """The rows asked for, or all there were, in the order they came in."""
        count = min(self._wanted.count, sum(self._sizes.values()))
        parts = quotas(self._sizes, count, self._wanted.seed)
        taken = [entry for label, group in self._groups.items() for entry in group[: parts[label]]]
        return [row for _, _, row in sorted(taken, key=lambda entry: entry[1])]
