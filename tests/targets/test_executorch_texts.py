"""ExecuTorch on models of texts: every length up to the largest in one program, a decoder with its cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pytest
from sequences import LONGEST, VOCABULARY, WIDTH, begun, continued, text_model, texts

from edgevit.errors import InputError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import executorch
from edgevit.targets.base import BuildSource
from edgevit.targets.delegation import read_delegation

pytestmark = pytest.mark.skipif(
    find_spec("executorch") is None,
    reason="ExecuTorch is not installed, so nothing was lowered or executed; pip install 'edgevit[executorch]'",
)
KINDS, ENCODER, DECODER = "short-kinds", "short.encoder", "short.decoder"
TABLE = "decoder.embed.weight"
MOST = LONGEST["source_length"]


# -------------------------------------------------------------------------------------------- right results


def test_float32_is_the_graph_at_every_length(sequences: Any, lowered_texts: Any, sessions: Any) -> None:
    sessions.append(session := lowered_texts(KINDS, "float32").open())
    for rows, length, pad in ((1, 1, 0), (3, 6, 0), (2, 5, 4), (8, MOST, 0), (11, 7, 0)):
        inputs = texts(rows, length, pad)
        found = session.run(inputs)
        for key, array in sequences.run(KINDS, inputs).items():
            np.testing.assert_allclose(found[key], array, atol=1e-4, err_msg=key)


def test_float32_decodes_step_by_step(sequences: Any, lowered_texts: Any, sessions: Any) -> None:
    """From no past at all to the longest, a prefix and one token alike; also more rows than memory is planned for."""
    sessions.append(session := lowered_texts(DECODER, "float32").open())
    for rows, length in ((1, 1), (3, 6), (9, MOST)):
        given = first_step(sequences, rows, length)
        for tokens in (3, 1, 1, LONGEST["target_length"] - 5):
            ids = np.random.default_rng(tokens).integers(1, VOCABULARY, (rows, tokens))
            expected = sequences.run(DECODER, {"input_ids": ids, **given})
            found = session.run({"input_ids": ids, **given})
            for key, array in expected.items():
                np.testing.assert_allclose(found[key], array, atol=1e-4, err_msg=key)
            given = continued(given, found)


def first_step(sequences: Any, rows: int, length: int) -> Any:
    """A decoder's inputs before its first token, but the tokens."""
    source = texts(rows, length)
    encoded = sequences.run(ENCODER, source)
    return begun(encoded, source["attention_mask"], sequences.part(DECODER).signature)


@pytest.mark.parametrize("precision", ["int8", "int4d"])
def test_every_layer_is_executed_in_integers(
    precision: str, sequences: Any, planned: Any, lowered_texts: Any, sessions: Any
) -> None:
    plan, batches = planned(DECODER)
    build = lowered_texts(DECODER, precision)
    sessions.append(session := build.open())
    execution = session.execution()
    linear = {entry.name.removesuffix(".weight") for entry in plan.layers if entry.kind == "linear"}
    narrow = precision.removesuffix("d")
    assert {layer.name for layer in execution.layers if layer.executed == narrow} == linear
    assert (execution.quantized_requested, execution.warnings) == (len(linear), ())
    assert read_delegation(build.directory).share_of_macs == 1
    for batch in batches:
        expected = sequences.run(DECODER, batch)["logits"]
        closeness = sqnr_db(expected, session.run(batch)["logits"])
        assert (8 if precision == "int4d" else 15) < closeness < 60, "close, and quantized"


def test_tables_of_embeddings_are_in_eight_bits(sequences: Any, planned: Any, lowered_texts: Any) -> None:
    """Rows are gathered as the plan's codes; the projection that is tied to the table multiplies with the same."""
    from edgevit.quantize.scales import quantize

    plan, _ = planned(DECODER)
    (entry,) = (one for one in plan.layers if one.name == TABLE)
    table = sequences.part(DECODER).module.get_parameter(TABLE).numpy()
    assert table.shape == (VOCABULARY, WIDTH)
    whole, narrow = ((lowered_texts(DECODER, one).directory / "model.pte").read_bytes() for one in ("float32", "int8"))
    codes = quantize(table, np.asarray(entry.weight_scale, np.float32), 0, narrow=True)
    assert codes.tobytes() in narrow
    assert table.tobytes() in whole and table.tobytes() not in narrow


def test_lengths_of_several_callers_do_not_mix(sequences: Any, lowered_texts: Any, sessions: Any) -> None:
    sessions.append(session := lowered_texts(KINDS, "float32").open(streams=2))
    calls = [texts(1 + seed % 3, 1 + 5 * (seed % 4), seed % 2, seed) for seed in range(24)]
    expected = [sequences.run(KINDS, call)["logits"] for call in calls]
    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(session.run, calls), expected, strict=True):
            np.testing.assert_allclose(found["logits"], wanted, atol=1e-4)


# ------------------------------------------------------------------------------------------------- the report


def test_the_report_names_what_fell_back_and_why(lowered_texts: Any) -> None:
    build = lowered_texts(DECODER, "float32")
    delegation = read_delegation(build.directory)
    assert delegation.share_of_macs == 1
    left = {(one.operator, one.reason) for one in delegation.fallbacks}
    assert ("embedding", "no kernel of the delegate takes it") in left
    assert ("view_copy", "its shape depends on that of the inputs") in left
    assert ("unsqueeze_copy", "no kernel of the delegate takes int64") in left
    operators = {operator for operator, _ in left}
    assert not operators & {"bmm", "linear", "_softmax", "cat", "any", "full_like", "logical_not"}
    assert build.build.options["fell_back"] == delegation.listed_fallbacks()
    assert build.build.options["lengths"] == "target_length 24, source_length 24, past_length 23"


# ---------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tags-lstm", {}, "no recurrent layer for executorch, found LSTM at .*one length; build onnxruntime"),
        ("gru.decoder", {}, "no recurrent layer for executorch, found GRU at "),
        ("tags-rnn", {}, "no recurrent layer for executorch, found RNN at "),
        (DECODER, {"batch": "2"}, r"expected batch=1 or max_batch=N .*rows end one by one, found batch=2"),
    ],
)
def test_what_no_program_can_be_is_refused(
    name: str, options: Any, message: str, sequences: Any, tmp_path: Any
) -> None:
    source = BuildSource(float_model=lambda: text_model(sequences, name), onnx=sequences.onnx(name))
    with pytest.raises(InputError, match=message):
        executorch.build(source, "float32", options, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_encoder_of_a_decoder_has_its_batch(sequences: Any, tmp_path: Any) -> None:
    other = (sequences.onnx(DECODER).signature,)
    source = BuildSource(float_model=lambda: pytest.fail("loaded"), onnx=sequences.onnx(ENCODER), others=other)
    with pytest.raises(InputError, match="found batch=2"):
        executorch.build(source, "float32", {"batch": "2"}, tmp_path)


def test_a_dynamic_size_without_a_largest_is_refused(tiny: Any, tmp_path: Any) -> None:
    spec = msgspec.structs.replace(tiny.model.signature.inputs[0], shape=("batch", 3, "height", 32))
    signature = msgspec.structs.replace(tiny.model.signature, inputs=(spec,))
    model = msgspec.structs.replace(tiny.model, signature=signature)
    with pytest.raises(InputError, match="sizes or lengths of texts for executorch, found height at pixel_values"):
        executorch.build(BuildSource(float_model=lambda: model, onnx=tiny.onnx), "float32", {}, tmp_path)


def test_texts_beyond_the_memory_are_refused(sequences: Any, lowered_texts: Any, sessions: Any) -> None:
    sessions.append(session := lowered_texts(DECODER, "float32").open())
    given = first_step(sequences, 1, 3)
    ids = np.ones((1, MOST + 1), np.int64)
    with pytest.raises(InputError, match=f"expected target_length up to {MOST}, what executorch-float32 has memory"):
        session.run({"input_ids": ids, **given})
    session.run({"input_ids": ids[:, 1:], **given})
