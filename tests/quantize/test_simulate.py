"""SQNR of the simulated model's outputs."""

from __future__ import annotations

import pytest

from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.simulate import simulated_sqnr
from edgevit.quantize.write_onnx import write_quantized


def test_it_is_the_sqnr_of_the_outputs(tiny, run_model, tmp_path):
    quantized = write_quantized(tiny.onnx, tiny.plan, tmp_path / "q.onnx")
    expected = sqnr_db(
        run_model(tiny.onnx.path, tiny.images)["logits"], run_model(quantized.path, tiny.images)["logits"]
    )
    assert 15 < expected < 50
    assert simulated_sqnr(tiny.onnx, tiny.plan, tiny.batches) == pytest.approx(expected, abs=0.01)
    assert simulated_sqnr(tiny.onnx, tiny.plan, [tiny.images]) == pytest.approx(expected, abs=0.01)
