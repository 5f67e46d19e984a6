"""The whole model decides between candidates: equalized or not, corrected or not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.quantize import choose
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.choose import choose_plan
from edgevit.quantize.planner import PlanOptions
from edgevit.quantize.simulate import simulated_sqnr

QKV = "blocks.0.attn.qkv.weight"
UNCORRECTED = PlanOptions(bias_correction=False)


@pytest.fixture
def candidates(tiny, monkeypatch):
    """`candidate_plans` replaced: first comes a plan whose factors do harm, then the plain one."""
    bad = tuple(float(value) for value in np.exp2(np.tile([-6, 6], 16)).astype(np.float32))
    layers = [
        msgspec.structs.replace(entry, equalization=bad, equalization_into="blocks.0.norm1")
        if entry.name == QKV
        else entry
        for entry in tiny.plan.layers
    ]
    harmful = msgspec.structs.replace(tiny.plan, layers=tuple(layers))

    monkeypatch.setattr(choose, "candidate_plans", lambda *arguments: iter([harmful, tiny.plan]))
    return harmful


def test_equalization_that_harms_the_model_is_left_off(candidates, tiny):
    assert simulated_sqnr(tiny.onnx, candidates, tiny.batches) < simulated_sqnr(tiny.onnx, tiny.plan, tiny.batches)
    assert choose_plan(tiny.onnx, None, UNCORRECTED, tiny.batches) == tiny.plan


def test_without_samples_the_plan_stays_as_it_was_made(candidates, tiny):
    assert choose_plan(tiny.onnx, None, UNCORRECTED, ()) == candidates


def test_equalization_that_helps_is_kept_and_biases_are_corrected(tiny, outlier_onnx):
    rng = np.random.default_rng(3)
    batches = [{"pixel_values": (rng.normal(size=(8, 3, 32, 32)) + 0.5).astype(np.float32)} for _ in range(4)]
    options = CalibrationOptions(set_name="noise", set_digest="1" * 64, rows=128, bins=512, threads=1)
    stats = calibrate(outlier_onnx, batches, options)
    plan = choose_plan(outlier_onnx, stats, UNCORRECTED, batches)
    assert any(entry.equalization for entry in plan.layers)
    assert not any(entry.bias_correction for entry in plan.layers)
    corrected = choose_plan(outlier_onnx, stats, PlanOptions(), batches)
    assert any(entry.bias_correction for entry in corrected.layers) == (corrected != plan)
    assert simulated_sqnr(outlier_onnx, corrected, batches[2:]) >= simulated_sqnr(outlier_onnx, plan, batches[2:])
