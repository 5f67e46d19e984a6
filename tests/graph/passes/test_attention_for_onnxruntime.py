"""Standard attention becomes ONNX Runtime's own where that can express it, and only there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.graph import storage
from edgevit.graph.attention import count_attention
from edgevit.graph.passes.attention_for_onnxruntime import CONTRIB, attention_for_onnxruntime


def test_it_is_replaced_and_computes_the_same(tiny, run_graph):
    model = storage.load(tiny.onnx.path)
    images = tiny.images["pixel_values"]
    expected = run_graph(model, images)
    assert attention_for_onnxruntime(model) == 2
    fused = [node for node in model.graph if node.op_type == "MultiHeadAttention"]
    assert [node.domain for node in fused] == [CONTRIB] * 2
    assert [node.attributes.get_int("num_heads") for node in fused] == [2, 2]
    assert not any(node.op_type == "Attention" for node in model.graph)
    assert model.opset_imports[CONTRIB] == 1
    assert count_attention(model) == 2
    np.testing.assert_allclose(run_graph(model, images), expected, rtol=1e-4, atol=1e-5)
    assert attention_for_onnxruntime(model) == 0


def attention(attributes="q_num_heads = 4, kv_num_heads = 4", inputs="x, x, x"):
    return ir.from_onnx_text(f"""
    <ir_version: 10, opset_import: ["" : 23]>
    model (float[b, t, 16] x, float[t, t] mask) => (float[b, t, 16] y) {{
        y = Attention<{attributes}>({inputs})
    }}
    """)


def test_its_scale_goes_along():
    model = attention("q_num_heads = 4, kv_num_heads = 4, scale = 0.25")
    assert attention_for_onnxruntime(model) == 1
    assert model.graph[0].attributes.get_float("scale") == 0.25


def test_attributes_at_their_defaults_are_no_obstacle():
    assert attention_for_onnxruntime(attention("q_num_heads = 4, kv_num_heads = 4, is_causal = 0, softcap = 0.0")) == 1


@pytest.mark.parametrize(
    ("attributes", "inputs"),
    [
        ("q_num_heads = 4, kv_num_heads = 4, is_causal = 1", "x, x, x"),
        ("q_num_heads = 4, kv_num_heads = 4, softcap = 2.0", "x, x, x"),
        ("q_num_heads = 4, kv_num_heads = 4", "x, x, x, , x, x"),
        ("q_num_heads = 4, kv_num_heads = 2", "x, x, x"),
        ("scale = 0.5", "x, x, x"),
    ],
)
def test_what_it_cannot_express_stays(attributes, inputs):
    model = attention(attributes, inputs)
    assert attention_for_onnxruntime(model) == 0
    assert model.graph[0].op_type == "Attention"
    assert CONTRIB not in model.opset_imports


def test_a_mask_is_added_to_the_scores_once_for_all_that_read_it(sequences):
    model = storage.load(sequences.onnx("transformer.encoder").path)
    assert attention_for_onnxruntime(model) == 2
    fused = [node for node in model.graph if node.op_type == "MultiHeadAttention"]
    assert fused[0].inputs[5] is fused[1].inputs[5]
    assert len(fused[0].inputs[5].shape) == 4


def test_a_boolean_mask_becomes_numbers():
    model = ir.from_onnx_text("""
    <ir_version: 10, opset_import: ["" : 23]>
    model (float[b, t, 16] x, bool[t, t] mask) => (float[b, t, 16] y) {
        y = Attention<q_num_heads = 4, kv_num_heads = 4>(x, x, x, mask)
    }
    """)
    assert attention_for_onnxruntime(model) == 1
    assert [node.op_type for node in model.graph] == ["Where", "Unsqueeze", "MultiHeadAttention"]


def test_a_decoder_hands_its_cache_to_the_operator(sequences):
    model = storage.load(sequences.onnx("transformer.decoder").path)
    assert attention_for_onnxruntime(model) == 4
    own, cross = [node for node in model.graph if node.op_type == "MultiHeadAttention"][:2]
    assert [value.name for value in own.inputs[6:8]] == [
        "past_key_values.0.decoder.key",
        "past_key_values.0.decoder.value",
    ]
    assert [value.name for value in own.outputs[1:]] == ["present.0.decoder.key", "present.0.decoder.value"]
    assert cross.inputs[1].name == "past_key_values.0.encoder.key", "on split heads, as the encoder made them"
    assert [node.op_type for node in model.graph].count("Transpose") == 1, "the embedding's, and none around heads"
    assert [value.name for value in model.graph.outputs] == [
        spec.name for spec in sequences.part("transformer.decoder").signature.outputs
    ]
