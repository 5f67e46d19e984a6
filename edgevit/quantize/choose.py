"""The plan among candidates that keeps the model's own outputs closest to float, bias correction included.

Every other choice in a plan is made layer by layer. Equalization is not safe to judge that way alone: a layer's mean
error over all tokens can fall while the one token that the classifier reads gets worse (an untrained ViT-Tiny lost
1.3 dB on noise and gained 0.4 dB on photographs). So the whole model decides, on calibration samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.quantize.bias import correct_bias
from edgevit.quantize.planner import PlanOptions, make_plan
from edgevit.quantize.simulate import simulated_sqnr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevit.types import Arrays, CalibrationStats, OnnxModel, QuantPlan


def choose_plan(
    model: OnnxModel,
    stats: CalibrationStats,
    options: PlanOptions,
    batches: Sequence[Arrays],
    progress: Callable[[str], None] = lambda layer: None,
) -> QuantPlan:
    """The plan under `options`, or the same without equalization where that is closer to float on `batches`.

    With `options.bias_correction` biases are corrected on the first half of `batches`, if the second half agrees.
    """
    plan = make_plan(model, stats, options, progress)
    if batches and any(entry.equalization for entry in plan.layers):
        plain = make_plan(model, stats, msgspec.structs.replace(options, equalize=frozenset()), progress)
        if simulated_sqnr(model, plain, batches) > simulated_sqnr(model, plan, batches):
            plan = plain
    return correct_bias(model, plan, batches) if options.bias_correction else plan
