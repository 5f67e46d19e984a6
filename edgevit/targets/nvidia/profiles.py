"""Optimization profiles: for every dynamic dimension the smallest, the best-served and the largest size.

Written as `batch:1:4:8` (min, opt, max), several separated by commas or spaces. A dynamic first dimension has a
default; any other dynamic dimension must be given, because no length is right for every text. An encoder and a decoder
share one text. Only what is past may be of size 0: `past_length:0:16:47`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.types import Value

if TYPE_CHECKING:
    from edgevit.types import Build, Signature

DEFAULT_BATCH = (1, 1, 8)
PAST = "past"
"""How the name of a cache's length begins: empty at first."""


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


def parse_profile(text: str, signature: Signature, others: tuple[Signature, ...] = ()) -> Profile:
    """The profile of a signature from the option's text (may be empty); `others` are the model's other parts.

    Raises InputError: a dynamic dimension without a profile, one that no part has, sizes out of order.
    """
    given = {name: _range(name, sizes) for name, sizes in _parts(text)}
    dynamic = _dynamic(signature, *others)
    unknown = [name for name in given if name not in dynamic]
    if unknown:
        raise InputError(
            f"expected a profile of the dynamic dimensions ({', '.join(dynamic) or 'this model has none'}), found "
            f"{unknown[0]!r} in {text!r}"
        )
    missing = [name for name, leading in dynamic.items() if not leading and name not in given]
    if missing:
        example = ",".join(f"{name}:{'0:16:511' if name.startswith(PAST) else '1:128:512'}" for name in missing)
        raise InputError(
            f"expected a profile for the dynamic dimension{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}, found none; add for example profile={example} (smallest, usual and "
            "largest size)"
        )
    smallest, usual, largest = DEFAULT_BATCH
    default = Range(min=smallest, opt=usual, max=largest)
    ordered = sorted(dynamic, key=lambda name: (not dynamic[name], name))  # the same from every part
    return Profile(dimensions={name: given.get(name, default) for name in ordered})


def check_profile(text: str, signatures: tuple[Signature, ...]) -> None:
    """Raises InputError for a text that is no profile; with the signatures of all parts, for one that is not theirs."""
    if signatures:
        parse_profile(text, signatures[0], signatures[1:])
        return
    for name, sizes in _parts(text):
        _range(name, sizes)


def stored_profile(build: Build) -> Profile:
    """The profile that a build was compiled with; that of the whole model where the build is a part of one."""
    return profile_of(build.options.get("profile", ""), build.signature)


def profile_of(text: str, signature: Signature) -> Profile:
    """The profile of a signature from a text that may speak of a model's other parts too."""
    dynamic = _dynamic(signature)
    return parse_profile(",".join(f"{name}:{sizes}" for name, sizes in _parts(text) if name in dynamic), signature)


def _dynamic(*signatures: Signature) -> dict[str, bool]:
    """Name of each dynamic dimension, and whether it is the first one of every input that has it."""
    found: dict[str, bool] = {}
    for spec in (spec for signature in signatures for spec in signature.inputs):
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
    least = 0 if name.startswith(PAST) else 1
    if not least <= smallest <= usual <= largest or largest == 0:
        raise InputError(
            f"expected {least} <= min <= opt <= max in the profile of {name!r}, found min {smallest}, opt {usual}, "
            f"max {largest}"
        )
    return Range(min=smallest, opt=usual, max=largest)
