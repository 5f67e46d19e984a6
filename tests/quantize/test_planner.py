"""From statistics to a plan: every layer accounted for, each choice visible in what the simulated model keeps."""

from __future__ import annotations

import fnmatch

import msgspec
import numpy as np
import pytest

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import layer_bias, layer_weight, quantizable_layers
from edgevit.quantize.adjust import EXPLICIT, adjust_weights
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.planner import PlanOptions, _Adjusted, _output_scale, candidate_plans, make_plan
from edgevit.quantize.scales import quantize
from edgevit.quantize.simulate import simulated_sqnr
from edgevit.types import ChannelStats

CALIBRATION = CalibrationOptions(set_name="noise", set_digest="1" * 64, rows=128, bins=512, threads=1)
PLAIN = frozenset()


@pytest.fixture(scope="module")
def stats(tiny):
    return calibrate(tiny.onnx, tiny.batches, CALIBRATION)


@pytest.fixture(scope="module")
def outlier_stats(tiny, outlier_onnx):
    return calibrate(outlier_onnx, tiny.batches, CALIBRATION)


@pytest.fixture(scope="module")
def plan(tiny, stats):
    return make_plan(tiny.onnx, stats, PlanOptions(model_name="tiny"))


def by_name(plan):
    return {entry.name: entry for entry in plan.layers}


def adjusted_codes(model, plan):
    """(entry, codes as (out, in)) of every layer, after equalization."""
    graph = storage.load(model.path)
    adjust_weights(graph, plan)
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    for entry in plan.layers:
        weight = layer_weight(graph, layers[entry.name])
        yield entry, quantize(weight, np.float32(entry.weight_scale), 0, narrow=True).astype(int)


# ------------------------------------------------------------------------------------------------ a whole plan


def test_every_layer_is_planned_in_graph_order(plan, tiny, stats):
    assert [entry.name for entry in plan.layers] == [entry.name for entry in tiny.plan.layers]
    assert plan.skipped == ()
    assert (plan.model, plan.model_digest, plan.statistics_digest) == ("tiny", tiny.onnx.digest, stats.digest)
    assert (plan.samples, plan.seed) == (12, 0)


def test_it_keeps_at_least_what_min_max_keeps(tiny):
    """Against the plainest plan there is, on many other samples than it was made from: a few tell little."""
    rng = np.random.default_rng(7)
    batches = [{"pixel_values": rng.normal(size=(32, 3, 32, 32)).astype(np.float32)} for _ in range(12)]
    seen, unseen = batches[:4], batches[4:]
    stats = calibrate(tiny.onnx, seen, CALIBRATION)
    plain = PlanOptions(ranges="min-max", weights="min-max", equalize=PLAIN)
    found, least = (
        simulated_sqnr(tiny.onnx, make_plan(tiny.onnx, stats, options), unseen) for options in (PlanOptions(), plain)
    )
    assert found > least - 0.5
    assert found > 20


def test_the_same_statistics_give_the_same_plan(plan, tiny, stats):
    assert make_plan(tiny.onnx, stats, PlanOptions(model_name="tiny")) == plan


def test_progress_names_each_layer_once(tiny, stats):
    seen = []
    make_plan(tiny.onnx, stats, PlanOptions(equalize=PLAIN), seen.append)
    assert sorted(seen) == sorted(entry.name for entry in tiny.plan.layers)


def test_output_scales_cover_what_the_layers_gave(plan, stats):
    for entry in plan.layers:
        low, high = stats.outputs[entry.name]
        assert entry.output_scale * 127 >= 0.999 * max(-low, high)


def test_output_scales_follow_outputs_that_absorb_factors(tiny):
    """Values that are divided by a small factor are larger than those that calibration saw."""
    graph = storage.load(tiny.onnx.path)
    qkv = next(layer for layer in quantizable_layers(graph) if layer.name == "blocks.0.attn.qkv.weight")
    weight = layer_weight(graph, qkv)
    rows = np.eye(weight.shape[1], dtype=np.float32)
    stats = ChannelStats(
        low=0.0,
        high=1.0,
        limit=2.0,
        histogram=np.ones(8, np.int64),
        channel_max=rows[0],
        channel_mean=rows[0],
        channel_power=rows[0],
        rows=rows,
        count=len(rows),
    )

    def scale(rescaled):
        adjusted = _Adjusted(graph=graph, layers={qkv.name: qkv}, rescaled=rescaled, observed={qkv.name: (-0.127, 0.0)})
        return _output_scale(adjusted, qkv, 100 * weight, stats)

    assert scale(frozenset()) == pytest.approx(0.001)
    bias = layer_bias(graph, qkv)
    assert scale(frozenset({qkv.name})) == pytest.approx(np.abs(100 * weight.T + bias).max() / 127, rel=1e-5)


# --------------------------------------------------------------------------------------------------- ranges


def test_min_max_is_the_largest_value_seen(tiny, stats):
    plan = make_plan(tiny.onnx, stats, PlanOptions(ranges="min-max", weights="min-max", equalize=PLAIN))
    graph = storage.load(tiny.onnx.path)
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    for entry in plan.layers:
        assert entry.input_scale == pytest.approx(stats.inputs[entry.name].channel_max.max() / 127, rel=1e-6)
        largest = np.abs(layer_weight(graph, layers[entry.name])).max(axis=1)
        np.testing.assert_allclose(entry.weight_scale, largest / 127, rtol=1e-6)
        assert (entry.input_method, entry.weight_method) == ("min-max", "min-max")


def test_a_named_range_is_taken_for_all(tiny, stats):
    wide = by_name(make_plan(tiny.onnx, stats, PlanOptions(ranges="min-max", equalize=PLAIN)))
    narrow = by_name(make_plan(tiny.onnx, stats, PlanOptions(ranges="percentile-99", equalize=PLAIN)))
    assert all(narrow[name].input_scale < entry.input_scale for name, entry in wide.items())
    assert {entry.input_method for entry in narrow.values()} == {"percentile-99"}
    with pytest.raises(PlanError, match="guesswork"):
        make_plan(tiny.onnx, stats, PlanOptions(ranges="guesswork"))


def test_searched_ranges_are_marked(plan):
    assert all(entry.input_method.startswith("search:") for entry in plan.layers)


# --------------------------------------------------------------------------------------------- equalization


def test_equalization_recovers_what_outliers_cost(tiny, outlier_onnx, outlier_stats):
    equalized = make_plan(outlier_onnx, outlier_stats)
    plain = make_plan(outlier_onnx, outlier_stats, PlanOptions(equalize=PLAIN))
    assert not any(entry.equalization for entry in plain.layers)
    kept, lost = (simulated_sqnr(outlier_onnx, each, tiny.batches) for each in (equalized, plain))
    assert kept > lost + 6
    qkv = by_name(equalized)["blocks.0.attn.qkv.weight"]
    assert qkv.equalization_into == "blocks.0.norm1"
    factors = np.array(qkv.equalization)
    others = np.delete(factors, [3, 17])
    assert factors[[3, 17]].min() > 3 * np.median(others), "the outliers are what is divided away"


@pytest.mark.parametrize("places", [{"norm"}, {"values"}, {"multiply"}, {"norm", "values"}])
def test_it_goes_only_where_it_may(places, outlier_onnx, outlier_stats):
    plan = make_plan(outlier_onnx, outlier_stats, PlanOptions(equalize=frozenset(places)))
    found = {
        "multiply"
        if entry.equalization_into == EXPLICIT
        else "values"
        if entry.equalization_into.endswith(":values")
        else "norm"
        for entry in plan.layers
        if entry.equalization
    }
    assert found <= places
    if "norm" in places:
        assert "norm" in found


def test_an_equalized_plan_is_exact_in_float(outlier_onnx, outlier_stats, tiny, tmp_path, run_model):
    plan = make_plan(outlier_onnx, outlier_stats)
    graph = storage.load(outlier_onnx.path)
    adjust_weights(graph, plan)
    storage.save(graph, tmp_path / "adjusted.onnx")
    expected = run_model(outlier_onnx.path, tiny.images)["logits"]
    found = run_model(tmp_path / "adjusted.onnx", tiny.images)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


SEPARATE = """
<ir_version: 10, opset_import: ["" : 23]>
model (float[n, 5, 8] x) => (float[n, 5, 8] y) {
    n = LayerNormalization(x, norm__weight, norm__bias)
    q = MatMul(n, q__weight)
    k = MatMul(n, k__weight)
    v = MatMul(n, v__weight)
    a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v)
    y = MatMul(a, out__weight)
}
"""


@pytest.fixture
def separate(write_graph):
    rng = np.random.default_rng(0)
    spread = np.array([1, 1, 40, 1, 1, 1, 40, 1])
    weights = {f"{name}__weight": rng.normal(size=(8, 8)) / spread[:, None] for name in "qkv"}
    norm = {"norm__weight": spread, "norm__bias": spread * 0.1}
    model = write_graph(SEPARATE, **weights, **norm, out__weight=rng.normal(size=(8, 8)))
    batches = [{"x": rng.normal(size=(16, 5, 8)).astype(np.float32)} for _ in range(3)]
    return model, calibrate(model, batches, CALIBRATION), batches


def test_layers_that_read_one_tensor_share_its_scale_and_factors(separate):
    model, stats, batches = separate
    plan = make_plan(model, stats)
    q, k, v = (by_name(plan)[f"{name}.weight"] for name in "qkv")
    assert q.equalization
    assert q.equalization == k.equalization == v.equalization
    assert {entry.equalization_into for entry in (q, k, v)} == {"norm"}
    assert q.input_scale == k.input_scale == v.input_scale
    plain = make_plan(model, stats, PlanOptions(equalize=PLAIN))
    assert simulated_sqnr(model, plan, batches) > simulated_sqnr(model, plain, batches) + 6


def test_the_norm_is_left_alone_where_one_reader_stays_float(separate):
    model, stats, batches = separate
    plan = make_plan(model, stats, PlanOptions(skip=("k.weight",)))
    assert {by_name(plan)[f"{name}.weight"].equalization_into for name in "qv"} <= {"", EXPLICIT}
    assert simulated_sqnr(model, plan, batches) > 10


# ------------------------------------------------------------------------------------------ what stays float


def test_patterns_leave_layers_in_float_and_say_so(tiny, stats):
    plan = make_plan(tiny.onnx, stats, PlanOptions(skip=("head.*", "*.fc2.weight")))
    reasons = {layer.name: layer.reason for layer in plan.skipped}
    names = [entry.name for entry in tiny.plan.layers]
    assert list(reasons) == [name for name in names if fnmatch.fnmatch(name, "*fc2*") or name.startswith("head")]
    assert reasons["head.weight"] == "left in float as asked (head.*)"
    assert not by_name(plan).keys() & reasons.keys()
    assert simulated_sqnr(tiny.onnx, plan, tiny.batches) > 15


def test_a_pattern_that_matches_nothing_is_a_mistake(tiny, stats):
    with pytest.raises(PlanError, match=r"--skip 'haed\.\*' to match a layer.*patch_embed\.proj\.weight") as caught:
        make_plan(tiny.onnx, stats, PlanOptions(skip=("haed.*",)))
    assert caught.value.exit_status == 2


def test_a_layer_that_int8_would_ruin_stays_in_float(tiny, stats):
    plan = make_plan(tiny.onnx, stats, PlanOptions(least_layer_sqnr_db=200, equalize=PLAIN))
    assert plan.layers == ()
    assert len(plan.skipped) == 10
    assert all("dB in int8, below 200 dB" in layer.reason for layer in plan.skipped)


# -------------------------------------------------------------------------------------- safe without VNNI


@pytest.mark.parametrize("weights", ["search", "min-max"])
def test_safe_weights_overflow_in_no_kernel(weights, tiny, stats):
    options = PlanOptions(weights=weights, safe_without_vnni=True)
    plan = make_plan(tiny.onnx, stats, options)
    assert plan.safe_without_vnni
    for entry, codes in adjusted_codes(tiny.onnx, plan):
        if entry.kind == "conv":
            assert np.abs(codes).max() <= 64
            assert entry.weight_method == f"{weights}, seven bits"
        else:
            assert np.abs(codes[:, 0::2] + codes[:, 1::2]).max() <= 128
            assert entry.weight_method == f"{weights}, pair-safe"


def test_otherwise_all_codes_are_used(plan, tiny):
    assert not plan.safe_without_vnni
    largest = [np.abs(codes).max() for _, codes in adjusted_codes(tiny.onnx, plan)]
    assert largest == [127] * 10


def test_a_plan_is_what_the_file_format_can_hold(plan, tiny, stats):
    safe = make_plan(tiny.onnx, stats, PlanOptions(safe_without_vnni=True, skip=("head.*",)))
    for each in (plan, safe):
        assert msgspec.json.decode(msgspec.json.encode(each), type=type(each)) == each
        for entry in each.layers:
            scales = (entry.input_scale, entry.output_scale, *entry.weight_scale)
            assert all(scale > 0 and float(np.float32(scale)) == scale for scale in scales), "exact in float32"


def test_the_plan_without_equalization_is_the_one_made_without(outlier_onnx, tiny):
    """Though what equalization leaves alone is not decided again."""
    stats = calibrate(outlier_onnx, tiny.batches, CALIBRATION)
    decided = []
    equalized, plain = candidate_plans(outlier_onnx, stats, PlanOptions(), decided.append)
    assert any(entry.equalization for entry in equalized.layers)
    assert plain == make_plan(outlier_onnx, stats, PlanOptions(equalize=PLAIN))
    layers = len(equalized.layers) + len(equalized.skipped)
    assert layers < len(decided) < 2 * layers


def test_without_equalization_there_is_one_candidate(tiny, stats):
    assert len(list(candidate_plans(tiny.onnx, stats, PlanOptions(equalize=PLAIN)))) == 1
