"""The plan among candidates that keeps the model's own outputs closest to float, bias correction included.

Every other choice in a plan is made layer by layer. Equalization is not safe to judge that way alone: a layer's mean
error over all tokens can fall while the one token that the classifier reads gets worse (an untrained ViT-Tiny lost
1.3 dB on noise and gained 0.4 dB on photographs). So the whole model decides, on calibration samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.quantize.bias import correct_bias
from edgevit.quantize.planner import PlanOptions, candidate_plans
from edgevit.quantize.simulate import judges_of, sqnr_before

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
    """The plan under `options`, or the same without equalization where that is closer to float.

    With two or more `batches` the second half of them judges, and with `options.bias_correction` the first half is
    what biases are corrected on, if the judges agree.
    """
    plans = candidate_plans(model, stats, options, progress)
    plan = next(plans)
    if not batches:
        return plan
    judges = judges_of(model, batches[len(batches) // 2 :])
    sqnr = sqnr_before(judges, plan)
    for plain in plans:
        plainly = sqnr_before(judges, plain)
        if plainly > sqnr:
            plan, sqnr = plain, plainly
    return correct_bias(model, plan, batches, (judges, sqnr)) if options.bias_correction else plan
