"""Weights in four bits: blocks, their scales, and which layers have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.write_int4 import blocked, write_int4


def test_a_block_has_a_scale_that_float16_can_hold() -> None:
    weight = np.random.default_rng(0).normal(size=(128, 5)).astype(np.float32)
    codes, scales = blocked(weight, 64)
    assert codes.dtype == np.int8 and codes.shape == weight.shape and scales.shape == (2, 5)
    assert codes.min() >= -8 and codes.max() <= 7
    np.testing.assert_array_equal(scales, scales.astype(np.float16).astype(np.float32))
    found = codes.reshape(2, 64, 5) * scales[:, None]
    assert float(sqnr_db(weight, found.reshape(weight.shape))) > 17


def test_the_search_beats_the_largest_weight() -> None:
    weight = np.random.default_rng(1).normal(size=(64, 200)).astype(np.float32)
    codes, scales = blocked(weight, 64)
    plain = np.abs(weight).max(axis=0) / 7
    rounded = np.clip(np.rint(weight / plain), -8, 7) * plain
    assert ((codes * scales - weight) ** 2).sum() < 0.95 * ((rounded - weight) ** 2).sum()


@pytest.mark.parametrize("value", [0.0, 1e-12])
def test_a_block_of_nothing_has_a_scale_too(value: float) -> None:
    codes, scales = blocked(np.full((64, 2), value, np.float32), 64)
    assert np.isfinite(scales).all() and (scales > 0).all()
    assert not codes.any()


def test_linear_layers_are_stored_in_blocks(tiny, tmp_path: Path) -> None:
    graph = storage.load(tiny.onnx.path)
    done = write_int4(graph)
    assert "head.weight" in done and len(done) == 9
    node = next(node for node in graph.graph if node.name == "head.weight.dequantize")
    assert node.attributes.get_int("block_size", 0) in (16, 32)
    assert node.inputs[0].dtype.name == "INT4"
    storage.save(graph, tmp_path / "int4.onnx")
    assert (tmp_path / "int4.onnx").stat().st_size < 0.6 * tiny.onnx.path.stat().st_size
    with Executor(tiny.onnx.path) as floating, Executor(tmp_path / "int4.onnx", exact=True) as rounded:
        expected, found = floating.run(tiny.images)["logits"], rounded.run(tiny.images)["logits"]
    assert 10 < float(sqnr_db(expected, found)) < 35
