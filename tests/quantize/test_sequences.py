"""Calibrating and planning what has lengths, padding, caches, embeddings and recurrent layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sequences import decoder_batches, texts

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import calibrated_layers, layer_weight, quantizable_layers
from edgevit.quantize.adjust import EXPLICIT
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.choose import choose_plan
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.quantize.plan_file import format_plan, parse_plan
from edgevit.quantize.planner import PlanOptions, make_plan
from edgevit.quantize.simulate import simulated_sqnr
from edgevit.quantize.write_onnx import WEIGHTS_ALONE, write_quantized

OPTIONS = CalibrationOptions(set_name="phrases", set_digest="")


def stats_of(sequences, name, batches):
    return calibrate(sequences.onnx(name), batches, OPTIONS)


def kinds(sequences, name):
    return {layer.name: layer.kind for layer in quantizable_layers(storage.load(sequences.onnx(name).path))}


def test_what_can_be_quantized_in_each_graph(sequences):
    decoder = kinds(sequences, "transformer.decoder")
    assert decoder["decoder.embed.weight"] == "linear", "the table that is the output projection, too"
    assert set(decoder.values()) == {"linear"}
    assert len(decoder) == 2 * 8 + 1
    assert kinds(sequences, "transformer.encoder")["encoder.embed.weight"] == "embedding"
    lstm = kinds(sequences, "lstm.decoder")
    assert [name for name, kind in lstm.items() if kind == "recurrent"] == [
        f"decoder.layers.{layer}.{weight}_l0" for layer in (0, 1) for weight in ("weight_ih", "weight_hh")
    ]
    tagger = kinds(sequences, "tags-rnn")
    assert list(tagger.values()).count("recurrent") == 8
    for names in (decoder, lstm, tagger):
        assert not [name for name in names if "positions" in name]


def test_every_weight_is_read_as_torch_has_it(sequences):
    for name in ("transformer.decoder", "lstm.decoder", "gru.decoder", "tags-rnn"):
        parameters = dict(sequences.part(name).module.named_parameters())
        graph = storage.load(sequences.onnx(name).path)
        for layer in quantizable_layers(graph):
            weight = layer_weight(graph, layer)
            assert weight.shape == (layer.out_channels, layer.in_channels)
            np.testing.assert_array_equal(weight, parameters[layer.name])


def test_padding_counts_in_no_statistics(sequences):
    plain = texts(4, 6)
    padded = {"input_ids": np.pad(plain["input_ids"], ((0, 0), (0, 5)), constant_values=9)}
    padded["attention_mask"] = np.pad(plain["attention_mask"], ((0, 0), (0, 5)))
    name = "transformer.encoder"
    expected, found = stats_of(sequences, name, [plain]), stats_of(sequences, name, [padded])
    for layer, stats in expected.inputs.items():
        assert stats.count == plain["attention_mask"].sum() == found.inputs[layer].count
        np.testing.assert_allclose(found.inputs[layer].channel_max, stats.channel_max, rtol=1e-5)


def test_a_decoder_is_calibrated_on_prefixes_and_steps(sequences):
    name = "transformer.decoder"
    batches = decoder_batches(sequences, "transformer")
    assert [batch["past_key_values.0.decoder.key"].shape[2] for batch in batches] == [0, 5, 6, 7]
    stats = stats_of(sequences, name, batches)
    layers = calibrated_layers(storage.load(sequences.onnx(name).path))
    assert set(stats.inputs) == {layer.name for layer in layers}
    assert {entry.count for entry in stats.inputs.values()} == {4 * (5 + 1 + 1 + 1)}
    assert stats.samples == 16


@pytest.mark.parametrize("model", ["transformer", "lstm", "gru"])
def test_a_decoders_plan_holds_every_kind_and_comes_back_from_its_file(sequences, model):
    name = f"{model}.decoder"
    batches = decoder_batches(sequences, model)
    onnx_model = sequences.onnx(name)
    plan = choose_plan(onnx_model, stats_of(sequences, name, batches), PlanOptions(least_layer_sqnr_db=0), batches)
    assert parse_plan(format_plan(plan), "plan").layers == plan.layers
    found = kinds(sequences, name)
    assert {entry.name: entry.kind for entry in plan.layers} == found
    graph = storage.load(onnx_model.path)
    check_plan_fits(plan, {layer.name: (layer.out_channels, layer.in_channels) for layer in quantizable_layers(graph)})
    for entry in plan.layers:
        if entry.kind != "linear":
            assert (entry.input_scale, entry.input_method) == (1.0, "not quantized")
        if entry.name == "decoder.embed.weight":
            assert entry.equalization == ()
            assert len(entry.weight_scale) == 30
    assert 20 < simulated_sqnr(onnx_model, plan, batches) < 60


def test_a_plan_may_leave_an_embedding_in_float(sequences):
    name = "transformer.encoder"
    batches = [texts(4, 6)]
    plan = make_plan(sequences.onnx(name), stats_of(sequences, name, batches), PlanOptions(skip=("*.embed.weight",)))
    assert [layer.name for layer in plan.skipped] == ["encoder.embed.weight"]
    assert "encoder.embed.weight" not in {layer.name for layer in plan.layers}


def test_a_tied_weight_is_not_equalized(sequences, min_max_plan):
    import msgspec

    name = "transformer.decoder"
    batches = decoder_batches(sequences, "transformer")
    plan = min_max_plan(sequences.onnx(name), batches)
    entries = tuple(
        msgspec.structs.replace(entry, equalization=(2.0,) * 32, equalization_into=EXPLICIT)
        if entry.name == "decoder.embed.weight"
        else entry
        for entry in plan.layers
    )
    with pytest.raises(PlanError, match="tied embedding decoder.embed.weight"):
        simulated_sqnr(sequences.onnx(name), msgspec.structs.replace(plan, layers=entries), batches)


@pytest.mark.parametrize("name", ["transformer.encoder", "lstm.encoder", "gru.encoder", "tags-rnn", "tags-gru"])
def test_weights_alone_are_nearly_exact(sequences, min_max_plan, run_model, tmp_path, name):
    from edgevit.parity.metrics import signal_noise

    batches = [texts(4, 6)]
    plan = min_max_plan(sequences.onnx(name), batches)
    written = write_quantized(sequences.onnx(name), plan, tmp_path / "weights.onnx", WEIGHTS_ALONE)
    operators = [node.op_type for node in onnx.load(written.path).graph.node]
    assert "QuantizeLinear" not in operators
    assert operators.count("DequantizeLinear") == sum(entry.kind != "embedding" for entry in plan.layers)
    for output, array in sequences.run(name, batches[0]).items():
        assert 30 < signal_noise(array, run_model(written.path, batches[0])[output]).db < 80


def test_per_layer_parity_lists_a_decoders_linear_layers(sequences, min_max_plan):
    from edgevit.parity.layers import layer_parity

    batches = decoder_batches(sequences, "transformer")
    model = sequences.onnx("transformer.decoder")
    rows = layer_parity(model, min_max_plan(model, batches), batches, alone=True)
    assert len(rows) == 17
    assert all(row.quantized and row.own_sqnr_db is not None and row.own_sqnr_db > 15 for row in rows)


@pytest.mark.parametrize("alone", [False, True])
def test_per_layer_parity_tells_of_embeddings_and_recurrent_weights(sequences, min_max_plan, alone):
    import msgspec

    from edgevit.parity.layers import layer_parity

    name = "lstm.encoder"
    model, batches = sequences.onnx(name), [texts(4, 6)]
    plan = min_max_plan(model, batches)
    rows = {row.name: row for row in layer_parity(model, plan, batches, alone=alone)}
    found = kinds(sequences, name)
    assert list(rows) == list(found)
    table = rows["encoder.embed.weight"]
    assert table.quantized and 35 < table.sqnr_db < 60
    assert (table.own_sqnr_db == pytest.approx(table.sqnr_db, abs=0.01)) if alone else table.own_sqnr_db is None
    recurrent = {weight: row for weight, row in rows.items() if found[weight] == "recurrent"}
    assert len(recurrent) >= 2
    for row in recurrent.values():
        assert not row.quantized and "int8w" in row.reason
        assert row.own_sqnr_db is not None and 35 < row.own_sqnr_db < 90
    # One weight with steps ten times as wide: its own row says so, and no other's.
    spoiled = next(iter(recurrent))
    entries = tuple(
        msgspec.structs.replace(entry, weight_scale=tuple(10 * scale for scale in entry.weight_scale))
        if entry.name == spoiled
        else entry
        for entry in plan.layers
    )
    worse = layer_parity(model, msgspec.structs.replace(plan, layers=entries), batches, alone=alone)
    for row in worse:
        before = rows[row.name].own_sqnr_db
        if row.name == spoiled:
            assert row.own_sqnr_db < before - 10
        elif before is not None:
            assert row.own_sqnr_db == pytest.approx(before, abs=0.01)
