"""What this machine can build and run, and the command that would change a no."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.measure import describe_machine
from edgevit.targets import get_target, target_names
from edgevit.types import Machine, Value

if TYPE_CHECKING:
    from edgevit.types import Precision


class TargetState(Value, frozen=True, kw_only=True):
    target: str
    version: str
    build: bool
    run: bool
    fix: str
    """The command that changes a no; empty when both are yes."""
    precisions: dict[str, str]
    """Precision to why this machine cannot execute it; an empty reason means it can."""


class Diagnosis(Value, frozen=True, kw_only=True):
    machine: Machine
    targets: tuple[TargetState, ...]


def doctor() -> Diagnosis:
    """Every known target on this machine."""
    return Diagnosis(machine=describe_machine(), targets=tuple(_state(name) for name in target_names()))


def _state(name: str) -> TargetState:
    target = get_target(name)
    state = target.availability()

    def reason(precision: Precision) -> str:
        return target.why_not(precision) if state.build else "not installed"

    return TargetState(
        target=name,
        version=state.version,
        build=state.build,
        run=state.run,
        fix=state.build_fix or state.run_fix,
        precisions={precision: reason(precision) for precision in target.precisions},
    )
