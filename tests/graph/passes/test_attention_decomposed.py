"""Attention written out gives what the operator gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from sequences import Sequences, decoder_batches, texts

from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.graph.passes.attention_decomposed import attention_decomposed, undecomposed


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def test_attention_is_written_out_with_the_same_result(tiny, run_graph) -> None:
    model = storage.load(tiny.onnx.path)
    images = tiny.images["pixel_values"]
    expected = run_graph(model, images)
    softmaxes = operators(model)["Softmax"]

    assert attention_decomposed(model) == 2
    after = operators(model)
    assert after["Attention"] == 0
    assert after["Softmax"] == softmaxes + 2
    np.testing.assert_allclose(run_graph(model, images), expected, atol=2e-5)
    assert attention_decomposed(model) == 0


def test_the_scale_is_the_nodes_own(tiny, run_graph) -> None:
    model = storage.load(tiny.onnx.path)
    for node in model.graph:
        if node.op_type == "Attention":
            node.attributes["scale"] = ir.AttrFloat32("scale", 0.9)
    images = tiny.images["pixel_values"]
    expected = run_graph(model, images)
    assert attention_decomposed(model) == 2
    np.testing.assert_allclose(run_graph(model, images), expected, atol=2e-5)


def test_what_it_cannot_express_stays_and_is_named(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    first = next(node for node in model.graph if node.op_type == "Attention")
    first.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    assert undecomposed(model) == (first.name,)
    assert attention_decomposed(model) == 1
    assert operators(model)["Attention"] == 1


@pytest.mark.parametrize("boolean", [False, True])
def test_a_mask_is_added_to_the_scores(sequences: Sequences, tmp_path: Path, boolean: bool) -> None:
    model = storage.load(sequences.onnx("kinds").path)
    if boolean:
        for node in model.graph:
            if node.op_type == "Attention":
                _mask_of_booleans(model, node)
    storage.save(model, tmp_path / "given.onnx")
    assert attention_decomposed(model) == 2
    assert undecomposed(model) == () and operators(model)["Attention"] == 0
    storage.save(model, tmp_path / "written_out.onnx")
    ragged = texts(4, 9, pad=3)
    assert (ragged["attention_mask"] == 0).any()
    with Executor(tmp_path / "given.onnx") as given, Executor(tmp_path / "written_out.onnx") as found:
        np.testing.assert_allclose(found.run(ragged)["logits"], given.run(ragged)["logits"], atol=2e-5)


def _mask_of_booleans(model: ir.Model, node: ir.Node) -> None:
    mask = node.inputs[3]
    assert mask is not None
    zero = model.graph.initializers.setdefault(
        "limit", ir.Value(name="limit", const_value=ir.tensor(np.float32(-1), name="limit"))
    )
    made = ir.node("Greater", [mask, zero], name=f"{node.name}.allowed")
    made.outputs[0].name, made.outputs[0].shape = made.name, mask.shape
    made.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
    model.graph.insert_before(node, made)
    node.replace_input_with(3, made.outputs[0])


def test_a_decoder_keeps_its_cache(sequences: Sequences, tmp_path: Path) -> None:
    """Heads are split before: new keys and values are appended to a cache of split heads."""
    model = storage.load(sequences.onnx("transformer.decoder").path)
    assert attention_decomposed(model) == 4
    assert operators(model)["Attention"] == 0
    storage.save(model, tmp_path / "decoder.onnx")
    with Executor(tmp_path / "decoder.onnx") as executor:
        for inputs in decoder_batches(sequences, "transformer"):
            expected, found = sequences.run("transformer.decoder", inputs), executor.run(inputs)
            assert expected.keys() == found.keys()
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, atol=5e-5, err_msg=name)
