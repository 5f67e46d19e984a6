"""The most faithful build that is small enough: what `edgevit export --max-size 8MB` answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError
from edgevit.targets import get_target
from edgevit.types import Value

if TYPE_CHECKING:
    from edgevit.bundle import Manifest
    from edgevit.recipe import Recipe
    from edgevit.types import Build

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class SizeChoice(Value, frozen=True, kw_only=True):
    limit: int
    """Bytes."""
    build: str = ""
    """The build to ship; empty where none fits."""
    size: int = 0
    """Bytes of the chosen build; of the smallest that passes parity where none fits, 0 where none passes."""
    reason: str


def parse_size(text: str) -> int:
    """`8MB`, `7.5 MiB`, `8000000` in bytes. Raises InputError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found.group(2).upper() not in UNITS or not float(found.group(1)):
        raise InputError(f"expected --max-size as a number of bytes, kB, MB, GB, KiB, MiB or GiB, found {text!r}")
    return int(float(found.group(1)) * UNITS[found.group(2).upper()])


def with_every_precision(recipe: Recipe) -> Recipe:
    """The recipe with a target that is named without a precision in all of its precisions that can be built here."""
    wanted: list[str] = []
    for text in recipe.targets:
        target = get_target(text.partition(":")[0])
        every = [f"{target.name}:{precision}" for precision in target.precisions if not target.why_not(precision)]
        wanted += [text] if ":" in text else every
    return msgspec.structs.replace(recipe, targets=tuple(dict.fromkeys(wanted)))


def choose(manifest: Manifest, limit: int) -> SizeChoice:
    """Of the builds that passed parity and fit into `limit` bytes, the closest to the reference (golden inputs)."""
    passed = [build for build in manifest.builds if build.verdict == "passed"]
    fitting = [build for build in passed if size_of(build) <= limit]
    if fitting:
        best = max(fitting, key=_closeness)
        size = size_of(best)
        reason = f"{best.name} has {_megabytes(size)}, {_megabytes(limit - size)} less than allowed, and passes parity"
        return SizeChoice(limit=limit, build=best.name, size=size, reason=reason)
    others = [build for build in manifest.builds if build.verdict != "passed" and size_of(build) <= limit]
    small = "".join(f"; {build.name} would fit, but is {build.verdict}" for build in others)
    expected = f"expected a build of at most {_megabytes(limit)} that passes parity, found none"
    if not passed:
        return SizeChoice(limit=limit, reason=f"{expected}: no build passes{small}")
    smallest = min(passed, key=size_of)
    size = size_of(smallest)
    found = f"the smallest that passes is {smallest.name} with {_megabytes(size)}, {_megabytes(size - limit)} too much"
    return SizeChoice(limit=limit, size=size, reason=f"{expected}: {found}{small}")


def size_of(build: Build) -> int:
    """Bytes of all files of a build."""
    return sum(file.size for file in build.files)


def _closeness(build: Build) -> tuple[float, int]:
    """Closest first; of equals the smaller."""
    return (float("-inf") if build.golden_sqnr_db is None else build.golden_sqnr_db), -size_of(build)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
