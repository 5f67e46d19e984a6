"""The lengths that a program's memory is planned for: as an option of its build, and of what it is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.types import Arrays, Build

LENGTHS = "lengths"
"""The option of a build: `source_length 64, target_length 64`; of one in parts `encoder: source_length 64; …`."""
LENGTH = re.compile(r"(\w+) (\d+)")


def written_lengths(longest: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in longest.items())


class LengthCheck:
    """Of every call's inputs: the engine's own word on it is `Error resizing tensor at input 0`."""

    def __init__(self, build: Build) -> None:
        self._name = build.name
        longest = {name: int(size) for name, size in LENGTH.findall(build.options.get(LENGTHS, ""))}
        self._axes = [
            (spec.name, axis, dim, longest[dim])
            for spec in build.signature.inputs
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str) and dim in longest
        ]

    def __call__(self, inputs: Arrays) -> None:
        """Raises InputError for what is longer than memory was planned for."""
        for name, axis, dim, most in self._axes:
            found = inputs[name].shape[axis]
            if found > most:
                raise InputError(
                    f"expected {dim} up to {most}, what {self._name} has memory for, found {found} at {name} "
                    f"{list(inputs[name].shape)}; give shorter texts"
                )
