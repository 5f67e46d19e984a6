"""A plan against the layers of a model."""

from __future__ import annotations

import msgspec
import pytest

from edgevit.errors import PlanError
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.types import LayerPlan, QuantPlan, SkippedLayer

LAYER = LayerPlan(name="blocks.0.mlp.fc1.weight", kind="linear", input_scale=0.5, weight_scale=(0.25, 0.125))
LAYERS = {"blocks.0.mlp.fc1.weight": (2, 3), "blocks.0.mlp.fc2.weight": (3, 2), "head.weight": (10, 3)}
PLAN = QuantPlan(model="m", model_digest="", layers=(LAYER,), skipped=(SkippedLayer(name="head.weight", reason="r"),))


def changed(**changes):
    return msgspec.structs.replace(PLAN, layers=(msgspec.structs.replace(LAYER, **changes),))


def test_plans_that_fit():
    check_plan_fits(PLAN, LAYERS)
    check_plan_fits(changed(equalization=(1.0,) * 3, equalization_into="norm", bias_correction=(0.0, 1.0)), LAYERS)
    check_plan_fits(msgspec.structs.replace(PLAN, layers=()), LAYERS)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (changed(name="blocks.0.mlp.fc3.weight"), "did you mean 'blocks.0.mlp.fc[12].weight'"),
        (changed(name="conv"), "got 'conv': is the plan for another model"),
        (changed(weight_scale=(1.0,)), r"fc1\.weight.*expected 2 numbers in weight_scale.*output channel, got 1"),
        (changed(equalization=(1.0, 1.0), equalization_into="n"), "expected 3 numbers in equalization.*input channel"),
        (changed(bias_correction=(1.0,) * 3), "expected 2 numbers in bias_correction"),
        (changed(equalization=(1.0,) * 3), "expected equalization_into"),
        (
            msgspec.structs.replace(PLAN, layers=(LAYER, LAYER)),
            r"one \[\[layer\]\] for '.*fc1\.weight', got 2",
        ),
        (
            msgspec.structs.replace(PLAN, skipped=(SkippedLayer(name=LAYER.name, reason="r"),)),
            r"both a \[\[layer\]\] and \[\[skipped\]\]",
        ),
    ],
)
def test_plans_that_do_not_fit(plan, expected):
    with pytest.raises(PlanError, match=expected):
        check_plan_fits(plan, LAYERS)
