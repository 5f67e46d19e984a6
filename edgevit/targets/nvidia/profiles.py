"""Optimization profiles: for every dynamic dimension the smallest, the best-served and the largest size.

Written as `batch:1:4:8` (min, opt, max), several separated by commas or spaces. A dynamic first dimension has a
default; any other dynamic dimension must be given, because no length is right for every text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.types import Value

if TYPE_CHECKING:
    from edgevit.types import Signature

DEFAULT_BATCH = (1, 1, 8)


class Range(Value, frozen=True, kw_only=True):
    min: int
    opt: int
    max: int


class Profile(Value, frozen=True, kw_only=True):
    """Sizes of the dynamic dimensions by name."""

    dimensions: dict[str, Range] = {}

    @property
    def text(self) -> str:
        """As the option is written; empty for a static model."""
        return ",".join(f"{name}:{size.min}:{size.opt}:{size.max}" for name, size in self.dimensions.items())

    def shapes(self, shape: tuple[int | str, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """(min, opt, max) of one input's shape."""

        def sized(which: str) -> tuple[int, ...]:
            return tuple(dim if isinstance(dim, int) else int(getattr(self.dimensions[dim], which)) for dim in shape)

        return sized("min"), sized("opt"), sized("max")


def parse_profile(text: str, signature: Signature) -> Profile:
    """The profile of a signature from the option's text (may be empty).

    Raises InputError: a dynamic dimension without a profile, one the signature does not have, sizes out of order.
    """
    given = {name: _range(name, sizes) for name, sizes in _parts(text)}
    dynamic = _dynamic(signature)
    unknown = [name for name in given if name not in dynamic]
    if unknown:
        raise InputError(
            f"expected a profile of the dynamic dimensions ({', '.join(dynamic) or 'this model has none'}), found "
            f"{unknown[0]!r} in {text!r}"
        )
    for name, leading in dynamic.items():
        if name in given:
            continue
        if not leading:
            raise InputError(
                f"expected a profile for the dynamic dimension {name!r}, found none; add for example "
                f"profile={name}:1:128:512 (smallest, usual and largest size)"
            )
        smallest, usual, largest = DEFAULT_BATCH
        given[name] = Range(min=smallest, opt=usual, max=largest)
    return Profile(dimensions={name: given[name] for name in dynamic})


def _dynamic(signature: Signature) -> dict[str, bool]:
    """Name of each dynamic dimension, and whether it is the first one of every input that has it."""
    found: dict[str, bool] = {}
    for spec in signature.inputs:
        for index, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                found[dim] = found.get(dim, True) and index == 0
    return found


def _parts(text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in re.split(r"[,\s]+", text.strip()):
        if part:
            name, _, sizes = part.partition(":")
            pairs.append((name, sizes))
    return pairs


def _range(name: str, sizes: str) -> Range:
    numbers = sizes.split(":")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        raise InputError(f"expected a profile as {name}:MIN:OPT:MAX, found {name + ':' + sizes!r}")
    smallest, usual, largest = (int(number) for number in numbers)
    if not 1 <= smallest <= usual <= largest:
        raise InputError(
            f"expected 1 <= min <= opt <= max in the profile of {name!r}, found min {smallest}, opt {usual}, "
            f"max {largest}"
        )
    return Range(min=smallest, opt=usual, max=largest)
