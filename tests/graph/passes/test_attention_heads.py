"""Attention on whole tensors: the reshapes and transposes around it go, what it computes stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.graph import storage
from edgevit.graph.passes.attention_heads import attention_heads

AROUND = ("Reshape", "Transpose", "Slice", "Squeeze")


def counts(model):
    operators = [node.op_type for node in model.graph]
    return {name: operators.count(name) for name in (*AROUND, "Attention", "Split")}


def attentions(model):
    return [node for node in model.graph if node.op_type == "Attention"]


def test_one_projection_for_q_k_v_becomes_a_split(tiny, exported, run_graph):
    model = storage.load(exported(tiny.model))
    images = tiny.images["pixel_values"]
    expected, before = run_graph(model, images), counts(model)
    assert attention_heads(model) == 2
    after = counts(model)
    assert after["Attention"] == before["Attention"] == 2
    assert after["Split"] == 2
    # What is left reshapes the patches.
    assert (after["Reshape"], after["Transpose"], after["Slice"], after["Squeeze"]) == (1, 1, 0, 0)
    assert before["Reshape"] >= 5
    for node in attentions(model):
        assert node.attributes.get_int("q_num_heads") == node.attributes.get_int("kv_num_heads") == 2
    np.testing.assert_allclose(run_graph(model, images), expected, rtol=1e-4, atol=1e-5)
    assert attention_heads(model) == 0


def test_separate_projections_are_read_directly(separate_model, exported, run_graph):
    model = storage.load(exported(separate_model))
    x = np.random.default_rng(0).normal(size=(3, 5, 16)).astype(np.float32)
    expected, before = run_graph(model, x), counts(model)
    assert before["Transpose"] >= 4
    assert attention_heads(model) == 1
    assert {name: counts(model)[name] for name in AROUND} == dict.fromkeys(AROUND, 0)
    (node,) = attentions(model)
    assert node.attributes.get_int("q_num_heads") == 4
    assert {value.producer().op_type for value in node.inputs[:3]} == {"Add"}
    np.testing.assert_allclose(run_graph(model, x), expected, rtol=1e-4, atol=1e-5)


JOINT = """
<ir_version: 10, opset_import: ["" : 23]>
model (float[2, 5, WIDTH] x) => (float[2, 5, 16] y)
<int64[5] split = {2, 5, PARTS, 4, 4}, int64[1] i0 = {FIRST}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] e0 = {END},
 int64[1] e1 = {2}, int64[1] e2 = {3}, int64[1] axis = {0}, int64[3] join = {2, 5, 16}> {
    a = Reshape(x, split)
    b = Transpose<perm = [2, 0, 3, 1, 4]>(a)
    q4 = Slice(b, i0, e0, axis)
    q = Squeeze(q4, axis)
    k4 = Slice(b, i1, e1, axis)
    k = Squeeze(k4, axis)
    v4 = Slice(b, i2, e2, axis)
    v = Squeeze(v4, axis)
    o = Attention<ATTRIBUTES>(q, k, v)
    t = Transpose<perm = [0, 2, 1, 3]>(o)
    y = Reshape(t, join)
}
"""


def joint(width=48, parts=3, first=0, attributes="scale = 0.3"):
    import onnx

    words = {"WIDTH": width, "PARTS": parts, "FIRST": first, "END": first + 1, "ATTRIBUTES": attributes}
    text = JOINT
    for word, value in words.items():
        text = text.replace(word, str(value))
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


@pytest.mark.parametrize("attributes", ["scale = 0.3", "is_causal = 1"])
def test_attributes_go_along(attributes, run_graph):
    model = joint(attributes=attributes)
    x = np.random.default_rng(0).normal(size=(2, 5, 48)).astype(np.float32)
    expected = run_graph(model, x)
    assert attention_heads(model) == 1
    np.testing.assert_allclose(run_graph(model, x), expected, rtol=1e-4, atol=1e-5)
    plain = joint(attributes="scale = 0.5")
    assert not np.allclose(run_graph(plain, x), expected, atol=1e-3), "the attribute matters"


def test_a_projection_of_more_than_q_k_v_is_left_alone():
    """A gate as fourth part: a third of the width is not what q holds."""
    assert attention_heads(joint(width=64, parts=4)) == 0


def test_parts_in_another_order_are_left_alone():
    assert attention_heads(joint(first=1)) == 0
