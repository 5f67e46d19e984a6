"""The table of layers: which layer's output suffers, by how much of its own, and which one is named first."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.errors import PlanError, SetError
from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.graph.layers import layer_bias, layer_weight, quantizable_layers
from edgevit.parity.layers import first_divergent, layer_parity
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.scales import fake_quantize
from edgevit.types import LayerParity, SkippedLayer

FC1 = "blocks.0.mlp.fc1.weight"
QKV = "blocks.1.attn.qkv.weight"


def changed(plan, layer, **changes):
    layers = [msgspec.structs.replace(e, **changes) if e.name == layer else e for e in plan.layers]
    return msgspec.structs.replace(plan, layers=tuple(layers))


def entry(plan, name):
    return next(e for e in plan.layers if e.name == name)


def by_name(layers):
    return {layer.name: layer for layer in layers}


def test_every_layer_is_listed_in_graph_order_with_small_losses(tiny):
    layers = layer_parity(tiny.onnx, tiny.plan, tiny.batches)
    names = [layer.name for layer in layers]
    assert names == [e.name for e in tiny.plan.layers]
    assert names[0] == "patch_embed.proj.weight"
    assert names[-1] == "head.weight"
    assert all(15 < layer.sqnr_db < 60 for layer in layers)
    assert all(layer.quantized and layer.own_sqnr_db is None for layer in layers)


def test_figures_do_not_depend_on_how_samples_are_batched(tiny):
    together = layer_parity(tiny.onnx, tiny.plan, [tiny.images])
    apart = layer_parity(tiny.onnx, tiny.plan, tiny.batches)
    for one, other in zip(together, apart, strict=True):
        assert one.sqnr_db == pytest.approx(other.sqnr_db, abs=0.05)


def test_a_ruined_layer_is_pointed_at(tiny):
    ruined = changed(tiny.plan, FC1, input_scale=entry(tiny.plan, FC1).input_scale * 50)
    for alone in (False, True):
        layers = layer_parity(tiny.onnx, ruined, tiny.batches, alone=alone)
        assert first_divergent(layers) == FC1
        assert by_name(layers)[FC1].sqnr_db < 10
    own = {layer.name: layer.own_sqnr_db for layer in layers}
    assert min(own, key=own.__getitem__) == FC1
    assert first_divergent(layer_parity(tiny.onnx, tiny.plan, tiny.batches), 5) is None


def test_own_error_is_the_layer_on_float_inputs(tiny):
    """Against a NumPy reference, and unlike the running error it does not grow with depth."""
    layers = by_name(layer_parity(tiny.onnx, tiny.plan, tiny.batches, alone=True))
    graph = storage.load(tiny.onnx.path)
    layer = next(layer for layer in quantizable_layers(graph) if layer.name == QKV)
    with Executor(tiny.onnx.path, [layer.input, layer.output]) as executor:
        values = executor.run(tiny.images)
    plan = entry(tiny.plan, QKV)
    x = fake_quantize(values[layer.input], plan.input_scale)
    weight = fake_quantize(layer_weight(graph, layer), np.float32(plan.weight_scale), 0, narrow=True)
    expected = sqnr_db(values[layer.output], x @ weight.T + layer_bias(graph, layer))
    assert layers[QKV].own_sqnr_db == pytest.approx(expected, abs=0.05)
    assert layers[QKV].own_sqnr_db > layers[QKV].sqnr_db + 1
    # The first layer inherits nothing, so its two figures agree: this checks the convolution and its bias.
    first = layers["patch_embed.proj.weight"]
    assert first.own_sqnr_db == pytest.approx(first.sqnr_db, abs=0.05)


def test_own_error_counts_the_bias_correction(tiny):
    plain = by_name(layer_parity(tiny.onnx, tiny.plan, tiny.batches[:1], alone=True))
    shifted = changed(tiny.plan, QKV, bias_correction=(3.0,) * len(entry(tiny.plan, QKV).weight_scale))
    layers = by_name(layer_parity(tiny.onnx, shifted, tiny.batches[:1], alone=True))
    assert layers[QKV].own_sqnr_db < plain[QKV].own_sqnr_db - 10
    assert layers[FC1].own_sqnr_db == pytest.approx(plain[FC1].own_sqnr_db, abs=0.01)


def test_equalized_outputs_are_compared_in_one_unit(tiny):
    """Equalization over the values scales a third of qkv's output; that is no error."""
    proj = "blocks.1.attn.proj.weight"
    factors = tuple(float(f) for f in np.geomspace(0.25, 4, 32).astype(np.float32))
    plan = changed(tiny.plan, proj, equalization=factors, equalization_into=f"{QKV}:values")
    plan = msgspec.structs.replace(plan, layers=tuple(e for e in plan.layers if e.name == proj))
    layers = by_name(layer_parity(tiny.onnx, plan, tiny.batches[:1]))
    assert layers[QKV].sqnr_db > 100


def test_float_layers_are_listed_with_their_reason(tiny):
    kept = tuple(e for e in tiny.plan.layers if e.name not in (FC1, QKV))
    plan = msgspec.structs.replace(tiny.plan, layers=kept, skipped=(SkippedLayer(name=FC1, reason="as asked"),))
    layers = by_name(layer_parity(tiny.onnx, plan, tiny.batches[:1], alone=True))
    assert (layers[FC1].quantized, layers[FC1].reason, layers[FC1].own_sqnr_db) == (False, "as asked", None)
    assert not layers[QKV].quantized
    assert "does not mention" in layers[QKV].reason
    assert layers[QKV].sqnr_db < 60, "it inherits"


def test_no_samples_and_foreign_plans_are_refused(tiny):
    with pytest.raises(SetError, match="found none"):
        layer_parity(tiny.onnx, tiny.plan, [])
    with pytest.raises(PlanError, match="renamed"):
        layer_parity(tiny.onnx, changed(tiny.plan, FC1, name="renamed.weight"), tiny.batches, alone=True)


# --------------------------------------------------------------------------------- the first divergent one


def table(*rows):
    """Rows of (SQNR, SQNR alone or None), named a, b, c, …"""
    return [
        LayerParity(name=name, sqnr_db=sqnr, own_sqnr_db=own) for name, (sqnr, own) in zip("abcdef", rows, strict=False)
    ]


def test_the_culprit_is_named_not_its_heir():
    # b inherits from before and only passes it on; c adds as much as it shows.
    assert first_divergent(table((25, 30), (19, 35), (10, 11), (9, 30))) == "c"


def test_without_figures_alone_the_drop_tells():
    assert first_divergent(table((25, None), (19.5, None), (12, None), (5, None))) == "c"
    assert first_divergent(table((5, None), (40, None))) == "a"


def test_errors_that_add_up_point_where_they_cross_the_line():
    assert first_divergent(table((24, 40), (21, 40), (19, 40), (18, 40))) == "c"


def test_float_layers_are_not_to_blame():
    layers = table((25, None), (10, None), (2, None))
    layers[1] = msgspec.structs.replace(layers[1], quantized=False)
    assert first_divergent(layers) == "c"


def test_nothing_diverges_above_the_line():
    layers = table((35, 36), (22, 22))
    assert first_divergent(layers) is None
    assert first_divergent(layers, least_db=30) == "b"
    assert first_divergent([]) is None
