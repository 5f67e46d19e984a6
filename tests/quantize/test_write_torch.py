"""The torch writer against the ONNX writer: the same plan gives the same codes, scales and function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.capture import CaptureOptions, capture
from edgevit.graph.execute import Executor
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.adjust import EXPLICIT
from edgevit.quantize.write_onnx import WriteOptions, quantize_graph, write_quantized
from edgevit.quantize.write_torch import WEIGHTS_ALONE, TorchOptions, write_dynamic, write_plan
from edgevit.types import QuantPlan

replace = msgspec.structs.replace


def changed(plan: QuantPlan, name: str, /, **what: Any) -> QuantPlan:
    return replace(plan, layers=tuple(replace(one, **what) if one.name == name else one for one in plan.layers))


@pytest.fixture(scope="module")
def plan(tiny: Any) -> QuantPlan:
    """Every kind of adjustment, and output scales so fine that they hardly round."""
    rng = np.random.default_rng(3)
    layers = tuple(replace(one, output_scale=2.0**-3) for one in tiny.plan.layers)
    whole = replace(tiny.plan, layers=layers)
    factors = {
        name: tuple(rng.uniform(0.5, 2, size).tolist()) for name, size in (("qkv", 32), ("proj", 32), ("fc2", 64))
    }
    qkv, proj, fc2 = "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.1.mlp.fc2.weight"
    whole = changed(whole, qkv, equalization=factors["qkv"], equalization_into="blocks.0.norm1")
    whole = changed(whole, proj, equalization=factors["proj"], equalization_into=f"{qkv}:values")
    whole = changed(whole, fc2, equalization=factors["fc2"], equalization_into=EXPLICIT)
    return changed(whole, "head.weight", bias_correction=tuple(rng.normal(size=10).tolist()))


@pytest.fixture
def exported(tiny: Any) -> torch.fx.GraphModule:
    module = capture(tiny.model, CaptureOptions()).module(check_guards=False)
    assert isinstance(module, torch.fx.GraphModule)
    return module


def test_codes_and_scales_are_those_of_the_onnx_writer(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    written = write_plan(exported, tiny.onnx, plan)
    assert written.layers == tuple(one.name for one in plan.layers)
    assert written.left_out == {}
    graph = storage.load(tiny.onnx.path)
    quantize_graph(graph, plan, WriteOptions())
    for entry in plan.layers:
        theirs = graph.graph.initializers[f"{entry.name}.int8"].const_value.numpy()
        ours = exported.get_buffer(f"{entry.name}_int8").numpy()
        np.testing.assert_array_equal(ours, theirs.T if entry.kind == "linear" else theirs)
        scales = np.asarray(entry.weight_scale, np.float32)
        np.testing.assert_array_equal(exported.get_buffer(f"{entry.name}_scale").numpy(), scales)
        assert not exported.get_buffer(f"{entry.name}_zero_point").any()


def test_every_layer_reads_and_writes_with_the_plans_scales(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    write_plan(exported, tiny.onnx, plan)
    entries = {one.name: one for one in plan.layers}
    seen = set()
    for node in exported.graph.nodes:
        if node.target not in (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default):
            continue
        restored = node.args[1]
        name = restored.args[0].target.removesuffix("_int8")
        entry = entries[name]
        assert node.args[0].args[1:4] == (entry.input_scale, 0, -128)
        (codes,) = node.users
        assert "quantize_per_tensor" in str(codes.target) and codes.args[1:4] == (entry.output_scale, 0, -128)
        seen.add(name)
    assert seen == entries.keys()


def test_parameters_that_absorb_factors_are_those_of_the_onnx_writer(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    write_plan(exported, tiny.onnx, plan)
    graph = storage.load(tiny.onnx.path)
    quantize_graph(graph, plan, WriteOptions())
    names = ["blocks.0.norm1.weight", "blocks.0.norm1.bias", "blocks.0.attn.qkv.bias", "head.bias"]
    for name in names:
        theirs = graph.graph.initializers[name].const_value.numpy()
        np.testing.assert_array_equal(exported.get_parameter(name).numpy(), theirs)
        assert not np.array_equal(tiny.model.module.get_parameter(name).numpy(), theirs), "nothing was adjusted"


def test_the_model_it_came_from_keeps_its_parameters(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    before = {name: value.clone() for name, value in tiny.model.module.named_parameters()}
    write_plan(exported, tiny.onnx, plan)
    assert all(torch.equal(before[name], value) for name, value in tiny.model.module.named_parameters())


def test_it_computes_what_the_onnx_writer_computes(tiny: Any, plan: QuantPlan, exported: Any, tmp_path: Any) -> None:
    """But for the outputs, which this writer rounds as well."""
    write_plan(exported, tiny.onnx, plan)
    quantized = write_quantized(tiny.onnx, plan, tmp_path / "q.onnx")
    with Executor(quantized.path, exact=True) as executor:
        expected = executor.run(tiny.images)["logits"]
    pixels = torch.from_numpy(tiny.images["pixel_values"][:8])
    with torch.no_grad():
        found = exported(pixels)
    assert sqnr_db(expected[:8], found.numpy()) > 20


def test_a_layer_without_an_output_scale_stays_float_and_says_so(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    without = changed(plan, "head.weight", output_scale=None)
    written = write_plan(exported, tiny.onnx, without)
    assert "head.weight" not in written.layers
    assert list(written.left_out) == ["head.weight"]
    assert "no output scale" in written.left_out["head.weight"]
    assert not hasattr(exported.get_submodule("head"), "weight_int8")


def test_a_bias_that_a_correction_brings_is_added(
    make_vit: Callable[..., Any], lower_model: Any, min_max_plan: Any, tiny: Any, tmp_path: Any
) -> None:
    model = make_vit()
    model.module.head = torch.nn.Linear(32, 10, bias=False).requires_grad_(False)
    onnx = lower_model(model, tmp_path / "model.onnx")
    plan = min_max_plan(onnx, tiny.batches)
    plan = replace(plan, layers=tuple(replace(one, output_scale=0.1) for one in plan.layers))
    plan = changed(plan, "head.weight", bias_correction=tuple(range(10)))
    module = capture(model, CaptureOptions()).module(check_guards=False)
    write_plan(module, onnx, plan)
    linear = [node for node in module.graph.nodes if node.target is torch.ops.aten.linear.default]
    head = next(node for node in linear if node.args[1].args[0].target == "head.weight_int8")
    assert head.args[2].target == "head.bias"
    np.testing.assert_array_equal(module.get_buffer("head.bias").numpy(), np.arange(10, dtype=np.float32))


def test_a_plan_for_another_model_does_not_fit(tiny: Any, plan: QuantPlan, exported: Any) -> None:
    renamed = changed(plan, "head.weight", name="tail.weight")
    with pytest.raises(PlanError, match=r"'tail\.weight'"):
        write_plan(exported, tiny.onnx, renamed)


@pytest.mark.parametrize(("options", "inputs"), [(TorchOptions(outputs=False), 10), (WEIGHTS_ALONE, 0)])
def test_without_outputs_no_output_scale_is_needed(tiny: Any, exported: Any, options: Any, inputs: int) -> None:
    assert all(entry.output_scale is None for entry in tiny.plan.layers)
    written = write_plan(exported, tiny.onnx, tiny.plan, options)
    assert len(written.layers) == 10 and written.left_out == {}
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert sum("dequantize_per_channel" in name for name in called) == 10
    assert sum("dequantize_per_tensor" in name for name in called) == inputs


# ------------------------------------------------------------------------------------------------ dynamic


def test_dynamic_needs_no_plan_and_stays_close(tiny: Any, exported: Any) -> None:
    with Executor(tiny.onnx.path, exact=True) as executor:
        expected = executor.run(tiny.images)["logits"][:8]
    written = write_dynamic(exported)
    assert len(written.layers) == 9 and written.left_out == {}
    with torch.no_grad():
        found = exported(torch.from_numpy(tiny.images["pixel_values"][:8])).numpy()
    assert 20 < sqnr_db(expected, found) < 60


@pytest.mark.parametrize("group", [16, 32])
def test_groups_of_four_bits_lose_less_than_their_range_alone_would(group: int, tiny: Any, exported: Any) -> None:
    """The scales are numbers that XNNPACK keeps (bfloat16), and searched: the largest weight may be clipped."""
    before = {name: value.detach().numpy().copy() for name, value in exported.named_parameters()}
    written = write_dynamic(exported, group)
    assert len(written.layers) == 9
    for name in written.layers:
        codes, scales = (exported.get_buffer(f"{name}_{what}").numpy() for what in ("int4", "scale"))
        assert codes.dtype == np.int8 and codes.min() >= -8 and codes.max() == 7
        assert scales.shape == (len(codes), codes.shape[1] // group)
        assert np.array_equal(torch.from_numpy(scales).bfloat16().float().numpy(), scales)
        grouped = before[name].reshape(len(codes), -1, group)
        ranged = np.abs(grouped).max(axis=2, keepdims=True) / 7
        plain = np.clip(np.rint(grouped / ranged), -8, 7) * ranged
        ours = codes.reshape(grouped.shape) * scales[..., None]
        assert ((ours - grouped) ** 2).sum() < ((plain - grouped) ** 2).sum()


def test_a_row_that_is_no_multiple_of_the_group_keeps_int8(exported: Any) -> None:
    written = write_dynamic(exported, 64)
    wide = {name for name in written.layers if name.endswith("fc2.weight")}
    assert wide and all(exported.get_buffer(f"{name}_int4").shape[1] == 64 for name in wide)
    assert all(exported.get_buffer(f"{name}_int8").dtype == torch.int8 for name in set(written.layers) - wide)


def test_dynamic_results_do_not_depend_on_the_rest_of_the_batch(tiny: Any, exported: Any) -> None:
    write_dynamic(exported)
    pixels = torch.from_numpy(tiny.images["pixel_values"][:4])
    louder = pixels.clone()
    louder[1:] *= 30
    with torch.no_grad():
        np.testing.assert_allclose(exported(pixels)[0].numpy(), exported(louder)[0].numpy(), rtol=1e-4, atol=1e-4)


def test_dynamic_weights_span_their_own_range(tiny: Any, exported: Any) -> None:
    write_dynamic(exported)
    graph = storage.load(tiny.onnx.path)
    layer = next(layer for layer in quantizable_layers(graph) if layer.name == "head.weight")
    largest = np.abs(layer_weight(graph, layer)).max(axis=1)
    np.testing.assert_allclose(exported.get_buffer("head.weight_scale").numpy(), largest / 127, rtol=1e-6)
    assert (np.abs(exported.get_buffer("head.weight_int8").numpy().astype(int)).max(axis=1) == 127).all()
