"""Encoders, decoders and taggers as graphs: right at every length, whatever stands in the padding, one weight once."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest
import torch
from sequences import LAYERS, LONGEST, begun, continued, make_part, texts
from torch import nn

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.attention import count_attention
from edgevit.graph.capture import capture
from edgevit.graph.lower import check_against_torch, lower
from edgevit.types import FloatPart, Signature, TensorSpec

PARTS = [f"{model}.{part}" for model in ("transformer", "lstm", "gru") for part in ("encoder", "decoder", "")]
ONE_GRAPH = ["kinds", "tags-rnn", "tags-lstm", "tags-gru"]


@pytest.mark.parametrize("name", [*PARTS, *ONE_GRAPH])
def test_every_graph_is_right_at_the_edges_of_every_length(sequences, name):
    part, model = sequences.part(name), sequences.onnx(name)
    assert model.signature == part.signature
    closeness = check_against_torch(part, model, 8, LONGEST)
    assert sorted(closeness) == [1, 2, 3, 8]
    assert min(closeness.values()) > 100


def test_each_attention_stays_one_node_with_its_mask(sequences):
    for name, count in (("transformer.encoder", LAYERS), ("transformer.decoder", 2 * LAYERS), ("kinds", LAYERS)):
        graph = storage.load(sequences.onnx(name).path)
        nodes = [node for node in graph.graph if node.op_type == "Attention"]
        assert len(nodes) == count_attention(graph) == count
        assert all(len(node.inputs) > 3 and node.inputs[3] is not None for node in nodes)


def test_attentions_that_share_a_mask_share_what_is_made_of_it(sequences):
    for name in ("transformer.encoder", "transformer.decoder"):
        graph = storage.load(sequences.onnx(name).path)
        assert [node.op_type for node in graph.graph].count("Expand") == 1


def test_no_parameter_is_in_two_parts_and_the_embedding_is_stored_once(sequences):
    names = {}
    for part in ("encoder", "decoder"):
        path = sequences.onnx(f"transformer.{part}").path
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        parameters = dict(sequences.part(f"transformer.{part}").module.named_parameters())
        assert not [name for name in parameters if name not in tensors]
        names[part] = set(parameters)
        table = tensors[f"{part}.embed.weight"]
        others = [array for name, array in tensors.items() if name != f"{part}.embed.weight"]
        assert not [array for array in others if array.size == table.size]
    assert not names["encoder"] & names["decoder"]
    decoder = storage.load(sequences.onnx("transformer.decoder").path)
    readers = {use.node.op_type for use in decoder.graph.initializers["decoder.embed.weight"].uses()}
    assert readers == {"Gather", "Transpose"}


@pytest.mark.parametrize("name", ["transformer.encoder", "kinds", "lstm.encoder", "gru.encoder", *ONE_GRAPH[1:]])
def test_padding_changes_no_result(sequences, name):
    short, long = texts(4, 6), texts(4, 6, pad=5)
    long["input_ids"] = np.where(long["attention_mask"] == 0, 7, long["input_ids"])
    of_short, of_long = sequences.run(name, short), sequences.run(name, long)
    real = short["attention_mask"].astype(bool)
    for output, expected in of_short.items():
        found = of_long[output]
        if output.endswith(("encoder.key", "encoder.value")):
            expected, found = expected.transpose(0, 2, 1, 3), found.transpose(0, 2, 1, 3)
        if expected.ndim > 2:  # one for each token
            expected, found = expected[real], found[:, :6][real]
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("model", ["transformer", "lstm", "gru"])
def test_steps_with_a_cache_give_what_the_whole_gives_at_once(sequences, model):
    source = texts(3, 5, pad=2)
    target = np.random.default_rng(1).integers(1, 30, (3, 6))
    whole = sequences.run(f"{model}.", {**source, "decoder_input_ids": target})["logits"]
    given = begun(
        sequences.run(f"{model}.encoder", source),
        source["attention_mask"],
        sequences.part(f"{model}.decoder").signature,
    )
    logits = []
    for start, end in ((0, 3), (3, 4), (4, 5), (5, 6)):  # three at once, as a prefix, then one by one
        outputs = sequences.run(f"{model}.decoder", {"input_ids": target[:, start:end], **given})
        given = continued(given, outputs)
        logits.append(outputs["logits"])
    np.testing.assert_allclose(np.concatenate(logits, axis=1), whole, atol=5e-5)


def test_a_length_that_the_trace_has_frozen_is_named(sequences):
    """A graph that is right at one length only, as if its positions had been baked in."""

    class Frozen(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, input_ids, attention_mask):
            return self.module(input_ids, attention_mask) * (1 if input_ids.shape[1] == 1 else 2)

    part = sequences.part("tags-rnn")
    frozen = msgspec.structs.replace(part, module=Frozen(part.module))
    with pytest.raises(CaptureError, match=r"torch's logits at batch 1, source_length 4 within 80 dB"):
        check_against_torch(frozen, sequences.onnx("tags-rnn"))


# ------------------------------------------------------------------------------------------------ recurrent


class Packed(nn.Module):
    """Packed sequences: each row's own end, in both directions."""

    def __init__(self, kind, *, bidirectional, layers, **options):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.rnn = getattr(nn, kind)(16, 24, layers, bidirectional=bidirectional, batch_first=True, **options)

    def forward(self, input_ids, attention_mask):
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        lengths = attention_mask.sum(1).cpu()
        packed = pack_padded_sequence(self.embed(input_ids), lengths, batch_first=True, enforce_sorted=False)
        y, after = self.rnn(packed)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=input_ids.shape[1])
        return y, *(state.transpose(0, 1) for state in (after if isinstance(after, tuple) else (after,)))


def packed_part(kind, *, bidirectional=False, layers=1, **options):
    torch.manual_seed(0)
    module = Packed(kind, bidirectional=bidirectional, layers=layers, **options).eval().requires_grad_(False)
    inputs = tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "source_length"))
        for name in ("input_ids", "attention_mask")
    )
    ways = 2 if bidirectional else 1
    y = TensorSpec(name="y", dtype="float32", shape=("batch", "source_length", 24 * ways))
    states = tuple(
        TensorSpec(name=name, dtype="float32", shape=("batch", layers * ways, 24))
        for name in (("hidden", "cell") if kind == "LSTM" else ("hidden",))
    )
    return FloatPart(name=kind, module=module, signature=Signature(inputs=inputs, outputs=(y, *states)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("bidirectional", "layers"), [(False, 1), (True, 2)])
def test_packed_sequences_end_where_their_rows_end(tmp_path, kind, bidirectional, layers):
    part = packed_part(kind, bidirectional=bidirectional, layers=layers)
    model = lower(capture(part), part, tmp_path / "packed.onnx")
    assert model.signature == part.signature
    assert min(check_against_torch(part, model, 5).values()) > 100
    graph = onnx.load(model.path).graph
    nodes = [node for node in graph.node if node.op_type == kind]
    assert len(nodes) == layers * (2 if bidirectional else 1)
    assert all(node.input[4] for node in nodes), "lengths of the rows"
    assert not [node for node in graph.node if node.op_type in ("Loop", "Scan", "If")]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_weights_keep_their_names_and_come_back_in_torchs_order(tmp_path, kind):
    from edgevit.graph.passes.recurrent_weights import in_torch_order

    part = packed_part(kind, bidirectional=True, layers=2)
    model = lower(capture(part), part, tmp_path / "packed.onnx")
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model.path).graph.initializer}
    weights = {name: value for name, value in part.module.named_parameters() if "weight_" in name}
    assert len(weights) == 8
    for name, value in weights.items():
        array = tensors[name][0]
        np.testing.assert_array_equal(array[in_torch_order(kind, len(array))], value)


def test_relu_instead_of_tanh_is_kept(tmp_path):
    part = packed_part("RNN", nonlinearity="relu")
    assert min(check_against_torch(part, lower(capture(part), part, tmp_path / "relu.onnx")).values()) > 100


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_captured_recurrent_layer_still_computes_in_torch(kind):
    part = packed_part(kind, bidirectional=True)
    inputs = [torch.from_numpy(array) for array in texts(3, 6).values()]
    for expected, found in zip(part.module(*inputs), capture(part).module()(*inputs), strict=True):
        torch.testing.assert_close(found, expected)


def test_torch_is_as_it_was_after_a_capture():
    from torch.nn.utils.rnn import pack_padded_sequence

    before = nn.LSTM.forward, pack_padded_sequence.__code__
    capture(packed_part("LSTM"))
    with pytest.raises(CaptureError):
        capture(packed_part("LSTM", proj_size=8))
    assert (nn.LSTM.forward, pack_padded_sequence.__code__) == before


def test_a_recurrent_layer_without_an_onnx_form_is_named():
    with pytest.raises(CaptureError, match=r"projection.* have no ONNX form") as caught:
        capture(packed_part("LSTM", proj_size=8))
    assert "\n" not in str(caught.value)


def test_a_part_says_what_it_cannot_trace():
    with pytest.raises(CaptureError, match="Branch"):
        part = make_part("tags-rnn")
        capture(msgspec.structs.replace(part, name="Branch", module=nn.Sequential()))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_of_any_size_keep_their_names(tmp_path, cell):
    """The exporter folds what it makes of a parameter only where it is small."""
    from edgevit.zoo import recurrent
    from edgevit.zoo.sequence_config import RecurrentConfig

    config = RecurrentConfig(
        cell=cell, source_vocabulary=40, target_vocabulary=30, dim=48, encoder_hidden=32, decoder_hidden=64
    )
    module = recurrent.initialize_recurrent(config).parts()["decoder"].eval().requires_grad_(False)
    part = FloatPart(name="decoder", module=module, signature=recurrent.decoder_signature(config))
    lowered = lower(capture(part), part, tmp_path / "decoder.onnx")
    names = set(storage.load(lowered.path).graph.initializers)
    assert {"decoder.layers.0.weight_ih_l0", "decoder.layers.0.weight_hh_l0"} <= names
