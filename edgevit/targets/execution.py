"""What an engine executes of what was asked for, from its list of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.targets.processor import best_instruction_set, instruction_sets
from edgevit.types import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.types import ExecutedLayer

ASKED = ("int8", "int8d")
"""What a layer may be requested in that an int8 kernel answers."""


def int8_execution(
    layers: Sequence[ExecutedLayer], *, provider: str, floats: str = "float32", why: str = ""
) -> Execution:
    """int8 where most layers run in it, else `floats`; a warning for each that was asked for in int8 and does not.

    `why` ends the warnings.
    """
    wanted = [layer for layer in layers if layer.requested in ASKED]
    missed = [layer for layer in wanted if layer.executed != "int8"]
    done = len(wanted) - len(missed)
    return Execution(
        precision="int8" if done > len(layers) / 2 else floats,
        provider=provider,
        instruction_set=best_instruction_set(instruction_sets()),
        quantized_requested=len(wanted),
        quantized_executed=done,
        layers=tuple(layers),
        warnings=tuple(
            f"{layer.name} was asked for in {layer.requested} and runs in {layer.executed}{why}" for layer in missed
        ),
    )
