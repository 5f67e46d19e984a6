"""Every linear layer in one form: MatMul on (in, out), then Add."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes.gemm_to_matmul import gemm_to_matmul

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
X = RNG.normal(size=(2, 3)).astype(np.float32)


@pytest.fixture
def gemm(parse_graph):
    def make(attributes="transB=1", inputs="x, w, b", weight=WEIGHT):
        arrays = {"w": weight, "b": BIAS}
        return parse_graph(text(attributes, inputs), **{name: arrays[name] for name in inputs.split(", ")[1:]})

    return make


def text(attributes, inputs):
    return f"""
    <ir_version: 10, opset_import: ["" : 21]>
    model (float[n, 3] x) => (float[n, 4] y) {{
        y = Gemm<{attributes}>({inputs})
    }}
    """


def operators(model):
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(("attributes", "weight"), [("transB=1", WEIGHT), ("transB=0", WEIGHT.T.copy())])
def test_it_becomes_matmul_and_add_with_the_same_output(attributes, weight, gemm, run_graph):
    model = gemm(attributes, weight=weight)
    expected = run_graph(model, X)
    assert gemm_to_matmul(model) == 1
    assert operators(model) == ["MatMul", "Add"]
    assert model.graph.initializers["w"].shape == (3, 4)
    assert model.graph.outputs[0].name == "y"
    np.testing.assert_allclose(run_graph(model, X), expected, rtol=1e-6)
    np.testing.assert_allclose(run_graph(model, X), X @ WEIGHT.T + BIAS, rtol=1e-5)
    assert gemm_to_matmul(model) == 0


def test_without_a_bias_only_matmul_is_left(gemm, run_graph):
    model = gemm(inputs="x, w")
    assert gemm_to_matmul(model) == 1
    assert operators(model) == ["MatMul"]
    np.testing.assert_allclose(run_graph(model, X), X @ WEIGHT.T, rtol=1e-5)


@pytest.mark.parametrize("attributes", ["transB=1, alpha=0.5", "transB=1, beta=2.0", "transA=1, transB=1"])
def test_what_is_more_than_a_linear_layer_stays(attributes, gemm):
    model = gemm(attributes)
    assert gemm_to_matmul(model) == 0
    assert operators(model) == ["Gemm"]


def test_the_head_of_a_model_can_be_quantized_after_it(tiny, exported):
    from edgevit.graph import storage

    model = storage.load(exported(tiny.model))
    assert "Gemm" in operators(model)
    before = len(quantizable_layers(model))
    changed = gemm_to_matmul(model)
    assert changed >= 1
    assert "Gemm" not in operators(model)
    assert len(quantizable_layers(model)) == before + changed == 10
