"""What a sweep over recipes, targets and seeds has made."""

from __future__ import annotations

from typing import Literal

from edgevit.types.parity import Rung
from edgevit.types.signature import Value


class SweepCell(Value, frozen=True, kw_only=True):
    """One bundle of a sweep, or why there is none."""

    name: str
    """Its directory below the sweep's: recipe, build, seed."""
    recipe: str
    build: str
    """`openvino-int8`."""
    seed: int | None
    """Of the calibration samples; None for a build that is not calibrated."""
    state: Literal["made", "kept", "failed"]
    """`kept`: finished by an earlier run of the sweep."""
    rung: Rung | None = None
    """The build against the float reference."""
    size: int = 0
    """Bytes of the build's files."""
    out_of_budget: tuple[str, ...] = ()
    """The stages and builds of the bundle that are out of their parity budget."""
    error: str = ""
    exit_status: int = 0
    """Of the error, as `edgevit export` would end with it."""


class Spread(Value, frozen=True, kw_only=True):
    """One number of several bundles."""

    mean: float
    least: float
    most: float
    deviation: float | None = None
    """Sample standard deviation; None for a single bundle."""


class SweepLine(Value, frozen=True, kw_only=True):
    """One recipe and build over all its seeds."""

    recipe: str
    build: str
    bundles: int
    """That were made."""
    wanted: int
    passed: int
    """Whose build is within its budget."""
    metric: str = ""
    accuracy: Spread | None = None
    """The build's, percent; None where the set has no truth."""
    difference: Spread | None = None
    """Build - reference, percentage points."""
    agreement: Spread | None = None
    sqnr_db: Spread | None = None
    size: Spread | None = None
    """Bytes."""


class SweepReport(Value, frozen=True, kw_only=True):
    schema: int = 1
    path: str
    lines: tuple[SweepLine, ...]
    cells: tuple[SweepCell, ...]
