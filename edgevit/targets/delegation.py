"""What of a program an engine's delegate takes over, and what stays with the slow kernels around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BuildError, BundleError
from edgevit.types import ExecutedLayer, Value

if TYPE_CHECKING:
    from pathlib import Path

FILE = "delegation.json"
REPORTING = ("executorch", "litert")
"""The targets that write it, and that a share can be demanded of."""


class Fallback(Value, frozen=True, kw_only=True):
    """Operators of one kind that the delegate leaves to others, all for one reason."""

    operator: str
    count: int
    macs: int
    """Multiply-accumulates of one sample, all of them together."""
    reason: str


class Delegation(Value, frozen=True, kw_only=True):
    """Operators are those that make a tensor; Q/DQ are not counted, for an integer kernel swallows them."""

    delegate: str
    partitions: int
    operators: int
    operators_delegated: int
    macs: int
    """Multiply-accumulates of one sample, in linear layers, convolutions and the products of attention."""
    macs_delegated: int
    fallbacks: tuple[Fallback, ...]
    layers: tuple[ExecutedLayer, ...]
    left_float: dict[str, str] = {}
    """Layers of the plan that were not written in int8, with why."""

    @property
    def share_of_operators(self) -> float:
        return self.operators_delegated / max(1, self.operators)

    @property
    def share_of_macs(self) -> float:
        return self.macs_delegated / max(1, self.macs)

    def summary(self) -> str:
        """`100.0 % of multiply-accumulates, 45.2 % of operators, in 63 partitions`."""
        return (
            f"{100 * self.share_of_macs:.1f} % of multiply-accumulates, {100 * self.share_of_operators:.1f} % of "
            f"operators, in {self.partitions} partitions"
        )

    def listed_fallbacks(self) -> str:
        """The operators that fell back, most expensive and most frequent first, with why."""
        return "; ".join(f"{one.count} {one.operator} ({one.reason})" for one in self.fallbacks) or "none"


def least_share(text: str) -> float | None:
    """The option `min_delegated` as a share of multiply-accumulates; None for what is none."""
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def check_share(delegation: Delegation, least: float, build: str) -> None:
    """Raises BuildError where less than `least` of the multiply-accumulates are delegated."""
    if delegation.share_of_macs < least:
        raise BuildError(
            f"expected at least {100 * least:g} % of {build}'s multiply-accumulates in {delegation.delegate}, found "
            f"{delegation.summary()}; left: {delegation.listed_fallbacks()}"
        )


def write_delegation(delegation: Delegation, directory: Path) -> None:
    (directory / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(delegation), indent=1) + b"\n")


def read_delegation(directory: Path) -> Delegation:
    """Raises BundleError where it is missing or not one."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Delegation)
    except OSError as error:
        raise BundleError(
            f"expected a delegation report at {path}, which cannot be read: {error.strerror}; export it again"
        ) from error
    except msgspec.DecodeError as error:
        raise BundleError(f"expected a delegation report at {path}, found: {error}; export it again") from error
