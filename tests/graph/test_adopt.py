"""ONNX files of other exporters, in the form the rest expects: same numbers, named layers, a recent opset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.adopt import adopt, check_against_source
from edgevit.graph.execute import Executor
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.types import FloatModel, ImagePreprocess, Signature, TensorSpec

RNG = np.random.default_rng(0)
PROJECTION = RNG.normal(size=(6, 6)).astype(np.float32) * 0.4


def source(path: Path, nodes: list[onnx.NodeProto], opset: int = 13, **weights: np.ndarray) -> FloatModel:
    """`nodes` from x (batch, 4, 6) to y, with `weights` as initializers."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8),
        str(path),
    )
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4, 6))
    return FloatModel(
        name="g",
        module=None,
        onnx=path,
        signature=Signature(inputs=(spec,), outputs=(TensorSpec(name="y", dtype="float32", shape=("N", 4, 6)),)),
        task="image-features",
        preprocess=ImagePreprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3),
        labels=(),
        trained=True,
    )


def test_weights_behind_constants_transposes_and_identities_are_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(PROJECTION, "w")),
        helper.make_node("Identity", ["w"], ["i"]),
        helper.make_node("MatMul", ["x", "i"], ["a"]),
        helper.make_node("Transpose", ["second"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]
    model = source(tmp_path / "s.onnx", nodes, second=PROJECTION + 1)
    adopted = adopt(model, tmp_path / "a.onnx")
    graph = storage.load(adopted.path)
    layers = quantizable_layers(graph)
    assert len(layers) == 2
    assert np.array_equal(layer_weight(graph, layers[0]), PROJECTION.T)
    assert np.array_equal(layer_weight(graph, layers[1]), PROJECTION + 1)
    assert adopted.opset >= 17
    assert min(check_against_source(model, adopted, 8).values()) > 100


def test_a_weight_that_two_layers_read_is_one_each(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = source(tmp_path / "s.onnx", nodes, w=PROJECTION)
    adopted = adopt(model, tmp_path / "a.onnx")
    assert [layer.name for layer in quantizable_layers(storage.load(adopted.path))] == ["w", "w.2"]
    assert min(check_against_source(model, adopted, 8).values()) > 100


def test_a_batch_is_fixed_on_request(tmp_path: Path) -> None:
    model = source(tmp_path / "s.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=18, w=PROJECTION)
    adopted = adopt(model, tmp_path / "a.onnx", batch=3)
    assert adopted.signature.inputs[0].shape == (3, 4, 6)
    assert adopted.signature.outputs[0].shape == (3, 4, 6)
    assert list(check_against_source(model, adopted, 8)) == [3]
    assert adopt(model, tmp_path / "b.onnx").signature.inputs[0].shape == ("N", 4, 6)


def test_external_weights_arrive(tmp_path: Path) -> None:
    model = source(tmp_path / "s.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=18, w=PROJECTION)
    proto = onnx.load(str(tmp_path / "s.onnx"))
    onnx.save(proto, str(tmp_path / "s.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "out").mkdir()
    adopted = adopt(model, tmp_path / "out" / "a.onnx")
    with Executor(adopted.path) as executor:
        x = RNG.normal(size=(2, 4, 6)).astype(np.float32)
        assert np.allclose(executor.run({"x": x})["y"], x @ PROJECTION, atol=1e-5)


def test_an_opset_that_cannot_be_upgraded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No Adapter For\n$11 for Frobnicate")

    monkeypatch.setattr("onnx.version_converter.convert_version", fail)
    model = source(tmp_path / "s.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=9, w=PROJECTION)
    with pytest.raises(CaptureError, match="from opset 9 to 17, found: No Adapter For") as caught:
        adopt(model, tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


def test_a_graph_that_no_longer_computes_the_same_is_refused(tmp_path: Path) -> None:
    model = source(tmp_path / "s.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=18, w=PROJECTION)
    other = source(tmp_path / "o.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=18, w=PROJECTION * 1.01)
    with pytest.raises(CaptureError, match="to give the source's y at batch 1 within 80 dB, found 40.0 dB"):
        check_against_source(model, adopt(other, tmp_path / "a.onnx"), 8)
