"""LiteRT on models of texts: every length in one file, int64 given and int32 taken, a decoder with its cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from sequences import HEADS, VOCABULARY, WIDTH, begun, continued, texts

from edgevit.errors import InputError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import litert
from edgevit.targets.base import BuildSource
from edgevit.targets.delegation import read_delegation
from edgevit.targets.tflite.session import allocated

pytestmark = pytest.mark.skipif(
    find_spec("ai_edge_litert") is None,
    reason="LiteRT is not installed, so nothing was written or executed; pip install 'edgevit[litert]'",
)
ENCODERS = ["kinds", "transformer.encoder"]


@pytest.mark.parametrize("name", ENCODERS)
def test_float32_is_the_graph_at_every_length(name: str, sequences: Any, build_with: Any, sessions: Any) -> None:
    sessions.append(session := build_with(sequences.onnx(name), "litert:float32", batches="1,8").open())
    for rows, length, pad in ((1, 1, 0), (3, 6, 0), (2, 5, 4), (8, 24, 0), (1, 7, 0)):
        inputs = texts(rows, length, pad)
        assert inputs["input_ids"].dtype == np.int64
        expected = sequences.run(name, inputs)
        found = session.run(inputs)
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, atol=1e-4, err_msg=key)


def test_float32_decodes_step_by_step(sequences: Any, build_with: Any, sessions: Any) -> None:
    name = "transformer.decoder"
    sessions.append(session := build_with(sequences.onnx(name), "litert:float32").open())
    for rows, length in ((1, 1), (3, 6)):
        source = texts(rows, length)
        encoded = sequences.run("transformer.encoder", source)
        given = begun(encoded, source["attention_mask"], sequences.part(name).signature)
        for tokens in (3, 1, 1, 2):
            ids = np.random.default_rng(tokens).integers(1, 30, (rows, tokens))
            expected = sequences.run(name, {"input_ids": ids, **given})
            found = session.run({"input_ids": ids, **given})
            for key, array in expected.items():
                np.testing.assert_allclose(found[key], array, atol=1e-4, err_msg=key)
            given = continued(given, expected)


@pytest.mark.parametrize("precision", ["int8", "int8d"])
@pytest.mark.parametrize("name", [*ENCODERS, "transformer.decoder"])
def test_every_layer_of_the_plan_is_executed_in_int8(
    name: str, precision: str, sequences: Any, planned: Any, build_with: Any, sessions: Any
) -> None:
    plan, batches = planned(name)
    build = build_with(sequences.onnx(name), f"litert:{precision}", plan)
    sessions.append(session := build.open())
    execution = session.execution()
    linear = {entry.name.removesuffix(".weight") for entry in plan.layers if entry.kind == "linear"}
    assert {layer.name for layer in execution.layers if layer.executed == "int8"} == linear
    assert (execution.quantized_requested, execution.warnings) == (len(linear), ())
    assert read_delegation(build.directory).share_of_macs == 1
    for batch in batches:
        (key, expected), *_ = sequences.run(name, batch).items()
        closeness = sqnr_db(expected, session.run(batch)[key])
        assert 15 < closeness < 60, "close, and quantized"


def test_tables_are_stored_once_and_in_eight_bits(sequences: Any, planned: Any, build_with: Any) -> None:
    """The decoder's embedding is its output projection too; rows are gathered as the plan's codes."""
    from ai_edge_litert import schema_py_generated as schema

    name = "transformer.decoder"
    plan, _ = planned(name)
    content = (build_with(sequences.onnx(name), "litert:int8", plan).directory / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    (table,) = [entry for entry in plan.layers if entry.name == "decoder.embed.weight"]
    readers = [one for one in graph.operators if "decoder.embed.weight" in names(graph, one.inputs)]
    kinds = [model.operatorCodes[one.opcodeIndex].builtinCode for one in readers]
    assert kinds == [schema.BuiltinOperator.EMBEDDING_LOOKUP, schema.BuiltinOperator.FULLY_CONNECTED]
    tensors = [graph.tensors[one.inputs[1]] for one in readers]
    assert len({one.buffer for one in tensors}) == 1 and tensors[0].type == schema.TensorType.INT8
    for one in tensors:
        np.testing.assert_array_equal(one.quantization.scale, np.asarray(table.weight_scale, np.float32))
    sizes = [0 if one.data is None else len(one.data) for one in model.buffers]
    assert [size for size in sizes if size >= VOCABULARY * WIDTH].count(VOCABULARY * WIDTH) == 1


def names(graph: Any, indices: Any) -> list[str]:
    return [graph.tensors[index].name.decode() for index in indices]


def test_the_interface_says_int32_and_which_sizes_are_free(sequences: Any, build_with: Any) -> None:
    build = build_with(sequences.onnx("transformer.decoder"), "litert:float32", batches="1,8")
    assert build.build.options["int32_inputs"] == "input_ids, encoder_attention_mask"
    runner = allocated((build.directory / "model.tflite").read_bytes()).get_signature_runner("batch_8")
    details = runner.get_input_details()
    assert {one["dtype"] for name, one in details.items() if name.endswith(("ids", "mask"))} == {np.int32}
    assert list(details["input_ids"]["shape_signature"]) == [8, -1]
    assert list(details["past_key_values.0.decoder.key"]["shape_signature"]) == [8, HEADS, -1, WIDTH // HEADS]
    assert build.build.signature.inputs[0].dtype == "int64", "what the caller gives"


def test_ids_beyond_int32_are_refused(sequences: Any, build_with: Any, sessions: Any) -> None:
    sessions.append(session := build_with(sequences.onnx("kinds"), "litert:float32").open())
    inputs = texts(1, 3)
    inputs["attention_mask"] = inputs["attention_mask"] * (2**32 + 1)
    with pytest.raises(
        InputError, match="expected attention_mask within int32, in which LiteRT counts, found 4294967297"
    ):
        session.run(inputs)


@pytest.mark.parametrize("name", ["tags-lstm", "gru.decoder", "tags-rnn"])
def test_recurrent_layers_are_refused(name: str, sequences: Any, tmp_path: Any) -> None:
    source = BuildSource(float_model=None, onnx=sequences.onnx(name))
    with pytest.raises(InputError, match="no recurrent layer for litert, found (LSTM|GRU|RNN) at .*build onnxruntime"):
        litert.build(source, "float32", {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lengths_of_several_callers_do_not_mix(sequences: Any, build_with: Any, sessions: Any) -> None:
    sessions.append(session := build_with(sequences.onnx("kinds"), "litert:float32").open(streams=2))
    calls = [texts(1 + seed % 3, 1 + 5 * (seed % 4), seed % 2, seed) for seed in range(24)]
    expected = [sequences.run("kinds", call)["logits"] for call in calls]
    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(session.run, calls), expected, strict=True):
            np.testing.assert_allclose(found["logits"], wanted, atol=1e-4)
