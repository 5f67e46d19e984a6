"""Reading any tensor of a graph, with and without optimizations, and leaving nothing behind."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.execute import Executor, range_of


def test_taps_are_read_beside_the_outputs_and_change_none(tiny):
    images = tiny.batches[0]
    with Executor(tiny.onnx.path) as plain, Executor(tiny.onnx.path, ["linear", "gelu", "logits"]) as tapped:
        expected, values = plain.run(images), tapped.run(images)
    assert list(values) == ["logits", "linear", "gelu"]
    assert values["linear"].shape == (4, 17, 96)
    np.testing.assert_allclose(values["logits"], expected["logits"], rtol=1e-4, atol=1e-5)
    qkv = next(node for node in storage.load(tiny.onnx.path).graph if node.name == "blocks.0.attn.qkv")
    with Executor(tiny.onnx.path, [qkv.inputs[0].name]) as executor:
        x = executor.run(images)[qkv.inputs[0].name]
    weight = tiny.model.module.blocks[0].attn.qkv
    np.testing.assert_allclose(
        x @ weight.weight.numpy().T + weight.bias.numpy(), values["linear"], rtol=1e-4, atol=1e-5
    )


def test_nothing_stays_beside_the_model(tiny):
    before = sorted(tiny.onnx.path.parent.iterdir())
    Executor(tiny.onnx.path, ["linear"]).close()
    with pytest.raises(Exception, match="no_such_tensor"):
        Executor(tiny.onnx.path, ["no_such_tensor"])
    assert sorted(tiny.onnx.path.parent.iterdir()) == before


def test_tapping_works_with_external_data(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    path = tmp_path / "big.onnx"
    storage.save(storage.load(tiny.onnx.path), path)
    with Executor(tiny.onnx.path, ["gelu"], exact=True) as one, Executor(path, ["gelu"], exact=True) as other:
        np.testing.assert_array_equal(one.run(tiny.images)["gelu"], other.run(tiny.images)["gelu"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]


def test_of_a_range_the_graph_gives_its_two_ends(tiny):
    taps = {"linear", "gelu", "logits"}
    with Executor(tiny.onnx.path, ["linear", "gelu"]) as whole, Executor(tiny.onnx.path, ranges=list(taps)) as reduced:
        tensors, ends = whole.run(tiny.images), reduced.run(tiny.images)
    assert set(ends) == {"logits", *(f"{name}.{end}" for name in taps for end in ("low", "high"))}
    for name in taps:
        assert range_of(name, ends) == (tensors[name].min(), tensors[name].max())
