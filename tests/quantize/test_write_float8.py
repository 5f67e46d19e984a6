"""E4M3 pairs from a plan: scales, codes, what is left in float, and what the rounding costs."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import msgspec
import numpy as np
import pytest
from sequences import Sequences

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.write_float8 import HEADROOM, LARGEST, input_scale, write_float8
from edgevit.types import LayerPlan, QuantPlan


def test_the_plans_range_is_put_on_a_quarter_of_the_largest_number() -> None:
    assert input_scale(1.0) * LARGEST == pytest.approx(127 * HEADROOM)


def test_linear_layers_multiply_codes_and_the_rest_stays(tiny, tmp_path: Path) -> None:
    graph = storage.load(tiny.onnx.path)
    done = write_float8(graph, tiny.plan)
    linear = [entry.name for entry in tiny.plan.layers if entry.kind == "linear"]
    assert list(done) == linear and len(linear) == 9
    nodes = {str(node.name): node for node in graph.graph}
    assert "patch_embed.proj.weight.dequantize" not in nodes
    weight = storage.load(tiny.onnx.path).graph.initializers["head.weight"].const_value.numpy()
    codes, scale, zero = nodes["head.weight.dequantize"].inputs
    assert codes.dtype.name == zero.dtype.name == "FLOAT8E4M3FN" and scale.const_value.numpy().shape == ()
    step = np.abs(weight).max() / np.float32(448)
    assert scale.const_value.numpy() == step
    np.testing.assert_array_equal(
        codes.const_value.numpy().astype(np.float32), (weight / step).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    )
    storage.save(graph, tmp_path / "float8.onnx")
    with Executor(tiny.onnx.path) as floating, Executor(tmp_path / "float8.onnx", exact=True) as rounded:
        expected, found = floating.run(tiny.images)["logits"], rounded.run(tiny.images)["logits"]
    assert 15 < float(sqnr_db(expected, found)) < 45, "three bits of mantissa: neither broken nor unrounded"


def test_what_int8_clips_is_kept(tiny, tmp_path: Path) -> None:
    """A range a quarter too small costs E4M3 nothing, and int8 nearly everything."""
    small = tuple(msgspec.structs.replace(entry, input_scale=entry.input_scale / 3) for entry in tiny.plan.layers)
    found = []
    for layers in (tiny.plan.layers, small):
        graph = storage.load(tiny.onnx.path)
        write_float8(graph, msgspec.structs.replace(tiny.plan, layers=layers))
        storage.save(graph, tmp_path / "float8.onnx")
        with Executor(tiny.onnx.path) as floating, Executor(tmp_path / "float8.onnx", exact=True) as rounded:
            expected, got = floating.run(tiny.images)["logits"], rounded.run(tiny.images)["logits"]
        found.append(float(sqnr_db(expected, got)))
    assert abs(found[1] - found[0]) < 3


def test_corrections_for_int8_are_left_out(tiny) -> None:
    head = next(entry for entry in tiny.plan.layers if entry.name == "head.weight")
    corrected = msgspec.structs.replace(head, bias_correction=(1.0,) * len(head.weight_scale))
    layers = tuple(corrected if entry is head else entry for entry in tiny.plan.layers)
    before = storage.load(tiny.onnx.path)
    graph = storage.load(tiny.onnx.path)
    write_float8(graph, msgspec.structs.replace(tiny.plan, layers=layers))
    np.testing.assert_array_equal(
        graph.graph.initializers["head.bias"].const_value.numpy(),
        before.graph.initializers["head.bias"].const_value.numpy(),
    )


def test_a_tied_projection_has_a_copy_of_its_own(sequences: Sequences) -> None:
    graph = storage.load(sequences.onnx("transformer.decoder").path)
    table = "decoder.embed.weight"
    rows = graph.graph.initializers[table].shape[0]
    entry = LayerPlan(name=table, kind="linear", input_scale=0.05, weight_scale=(0.01,) * rows)
    assert write_float8(graph, QuantPlan(model="", model_digest="", layers=(entry,))) == (table,)
    kinds = {use.node.op_type for use in graph.graph.initializers[table].uses()}
    assert kinds == {"Gather"}, "the embedding stays float, and nothing turns it any more"
    assert graph.graph.initializers[f"{table}.float8"].shape[1] == rows


def test_a_plan_for_another_model_is_refused(tiny) -> None:
    entry = LayerPlan(name="nothing.weight", kind="linear", weight_scale=(1.0,))
    with pytest.raises(PlanError, match="nothing.weight"):
        write_float8(storage.load(tiny.onnx.path), QuantPlan(model="", model_digest="", layers=(entry,)))
