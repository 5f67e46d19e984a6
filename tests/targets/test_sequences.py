"""Both engines on graphs with lengths: what torch computes, at a past of 0 and of more, ragged and alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sequences import VOCABULARY, WIDTH, begun, continued, decoder_batches, texts

TARGETS = ["openvino", "onnxruntime"]
ONE_GRAPH = ["kinds", "tags-rnn", "tags-lstm", "tags-gru", "lstm.encoder", "gru.encoder", "transformer.encoder"]


def assert_close(found, expected, tolerance=1e-4):
    assert found.keys() >= expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ONE_GRAPH)
def test_float32_is_the_graph_at_every_length(sequences, build_with, sessions, target, name):
    sessions.append(session := build_with(sequences.onnx(name), f"{target}:float32").open())
    for rows, length, pad in ((1, 1, 0), (3, 6, 0), (2, 5, 4), (8, 24, 0), (1, 7, 0)):
        inputs = texts(rows, length, pad)
        assert_close(session.run(inputs), sequences.run(name, inputs))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", ["transformer", "lstm", "gru"])
def test_float32_decodes_step_by_step(sequences, build_with, sessions, target, model):
    name = f"{model}.decoder"
    sessions.append(session := build_with(sequences.onnx(name), f"{target}:float32").open())
    for rows, length in ((1, 1), (3, 6)):
        source = texts(rows, length)
        encoded = sequences.run(f"{model}.encoder", source)
        given = begun(encoded, source["attention_mask"], sequences.part(name).signature)
        for tokens in (3, 1, 1, 2):
            ids = np.random.default_rng(tokens).integers(1, 30, (rows, tokens))
            expected = sequences.run(name, {"input_ids": ids, **given})
            assert_close(session.run({"input_ids": ids, **given}), expected)
            given = continued(given, expected)


@pytest.mark.parametrize("precision", ["float32", "int8", "int8d", "int8w"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_tied_table_is_stored_once(sequences, build_with, min_max_plan, target, precision):
    """The decoder's embedding is its output projection too, in every form that an engine's file has of it."""
    model = sequences.onnx("transformer.decoder")
    plan = None if precision == "float32" else min_max_plan(model, decoder_batches(sequences, "transformer"))
    directory = build_with(model, f"{target}:{precision}", plan).directory
    if target == "onnxruntime":
        shapes = [tuple(tensor.dims) for tensor in onnx.load(directory / "model.onnx").graph.initializer]
    else:
        import openvino

        operations = openvino.Core().read_model(directory / "model.xml").get_ops()
        shapes = [tuple(one.get_output_shape(0)) for one in operations if one.get_type_name() == "Constant"]
    tables = [shape for shape in shapes if VOCABULARY in shape and np.prod(shape) == VOCABULARY * WIDTH]
    assert len(tables) == 1, tables
