"""Attention written out gives what the operator gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from edgevit.graph import storage
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


def test_a_mask_stays_and_is_named(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    first = next(node for node in model.graph if node.op_type == "Attention")
    first.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    assert undecomposed(model) == (first.name,)
    assert attention_decomposed(model) == 1
    assert operators(model)["Attention"] == 1
