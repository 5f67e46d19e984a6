"""Whether a quantization plan fits the layers of a model."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

from edgevit.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgevit.types import LayerPlan, QuantPlan


def check_plan_fits(plan: QuantPlan, layers: Mapping[str, tuple[int, int]]) -> None:
    """Raises PlanError unless every layer of the plan exists in the model, once, with arrays of the right length.

    `layers` gives (output channels, input channels) of each layer that can be quantized, by parameter name. A layer
    of the model that the plan does not mention is fine: it stays in float.
    """
    planned = [layer.name for layer in plan.layers]
    skipped = [layer.name for layer in plan.skipped]
    for name, times in Counter(planned).items():
        if times > 1:
            raise PlanError(f"plan: expected one [[layer]] for '{name}', got {times}: keep one of them")
    for name in skipped:
        if name in planned:
            raise PlanError(f"plan: '{name}' is both a [[layer]] and [[skipped]]: remove one of the two")
    for name in planned:
        if name not in layers:
            raise PlanError(_unknown(name, layers))
    for layer in plan.layers:
        _check_lengths(layer, *layers[layer.name])


def _check_lengths(layer: LayerPlan, outputs: int, inputs: int) -> None:
    wanted = {
        "weight_scale": (outputs, "output", False),
        "equalization": (inputs, "input", True),
        "bias_correction": (outputs, "output", True),
    }
    for key, (channels, side, may_be_empty) in wanted.items():
        length = len(getattr(layer, key))
        if length != channels and not (may_be_empty and length == 0):
            raise PlanError(
                f"plan: layer '{layer.name}': expected {channels} numbers in {key}, one per {side} channel, "
                f"got {length}: is the plan for another model?"
            )
    if layer.equalization and not layer.equalization_into:
        raise PlanError(
            f"plan: layer '{layer.name}': expected equalization_into to name what takes up the division by "
            "equalization, got nothing: name it, or remove equalization"
        )


def _unknown(name: str, layers: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, layers, n=1)
    advice = f"did you mean '{close[0]}'?" if close else "is the plan for another model?"
    return f"plan: expected layers that the model can quantize, got '{name}': {advice}"
