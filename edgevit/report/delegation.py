"""What the engines of phones hand over to their fast kernels, as their builds say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.rows import NAME, Cell, Column, Table, used

if TYPE_CHECKING:
    from edgevit.types import Build

WIDE = 600
CAPTION = (
    "Counted in the program that a build ships: what its delegate takes, and what the slower kernels around it run. "
    "The bundle's delegation.json has it operator by operator."
)


def delegation_table(builds: tuple[Build, ...]) -> Table | None:
    """One row per build that reports it; None without one."""
    found = [build for build in builds if "delegated" in build.options]
    if not found:
        return None

    def cells(key: str) -> list[Cell]:
        return [Cell(formats.clean(build.options[key], WIDE)) if key in build.options else Cell() for build in found]

    columns = [
        (NAME, [Cell(build.name) for build in found]),
        (Column("delegated", align="left"), cells("delegated")),
        (Column("left to other kernels", align="left"), cells("fell_back")),
        (Column("int64 given, int32 taken", align="left"), cells("int32_inputs")),
    ]
    return used("delegation", CAPTION, columns)
