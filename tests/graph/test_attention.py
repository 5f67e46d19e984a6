"""Counting attention blocks, fused or decomposed."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.attention import check_attention, count_attention


def decomposed(between=""):
    """Q Kᵀ, Softmax, perhaps what a boolean mask adds, then the product with V."""
    steps = {
        "": "w = Identity(p)",
        "mask": "n = IsNaN(p)\n w = Where(n, zero, p)",
        "other": "w = Relu(p)",
    }
    return ir.from_onnx_text(f"""
    <ir_version: 10, opset_import: ["" : 21]>
    model (float[b, t, 4] q, float[b, 4, t] k, float[b, t, 4] v) => (float[b, t, 4] y) <float zero = {{0.0}}> {{
        s = MatMul(q, k)
        p = Softmax<axis = -1>(s)
        {steps[between]}
        y = MatMul(w, v)
    }}
    """)


def test_one_per_block(tiny):
    assert count_attention(storage.load(tiny.onnx.path)) == 2


@pytest.mark.parametrize(("between", "count"), [("", 1), ("mask", 1), ("other", 0)])
def test_decomposed_attention_counts(between, count):
    assert count_attention(decomposed(between)) == count


def test_a_wrong_number_is_refused_and_an_unknown_depth_is_not():
    assert check_attention(decomposed(), 1, "m") == 1
    assert check_attention(decomposed("other"), None, "m") == 0
    with pytest.raises(CaptureError, match=r"expected 12 attention blocks in the graph of m, found 1; use torch"):
        check_attention(decomposed(), 12, "m")
