"""What only ONNX Runtime has: graphs optimized offline, its own attention, and a provider to check."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest

from edgevit.errors import BuildError, UnavailableError
from edgevit.graph import storage
from edgevit.targets import onnxruntime
from edgevit.targets.base import BuildSource


def operators(directory):
    return [node.op_type for node in onnx.load(directory / "model.onnx").graph.node]


def test_the_file_holds_fused_operators_and_no_layouts_of_this_machine(built):
    found = operators(built("onnxruntime:int8").directory)
    assert found.count("MatMulIntegerToFloat") + found.count("MatMulInteger") == 9
    assert found.count("MultiHeadAttention") == 2
    directory = built("onnxruntime:int8").directory
    domains = {node.domain for node in onnx.load(directory / "model.onnx").graph.node}
    assert domains == {"", "com.microsoft"}, "blocked layouts (nchwc) are another processor's"
    assert [path.name for path in directory.iterdir()] == ["model.onnx"]


def test_unoptimized_keeps_the_pairs_as_written(build_with, built, tiny, sessions):
    plain = build_with(tiny.onnx, "onnxruntime:int8", tiny.plan, optimize="no")
    assert plain.build.options["optimize"] == "no"
    found = operators(plain.directory)
    assert (found.count("QuantizeLinear"), found.count("DequantizeLinear")) == (9, 18)
    assert found.count("MultiHeadAttention") == 2
    sessions.append(session := plain.open())
    sessions.append(optimized := built("onnxruntime:int8").open())
    np.testing.assert_allclose(session.run(tiny.images)["logits"], optimized.run(tiny.images)["logits"], atol=0.05)
    # Optimized while it is opened, the head becomes a float Gemm before its pairs are looked at; that is said.
    execution = session.execution()
    assert execution.quantized_requested == 9
    assert execution.quantized_executed == 9 - len(execution.warnings) >= 8


def test_the_provider_is_read_back(built, monkeypatch):
    import onnxruntime as ort

    class Session(ort.InferenceSession):
        def get_providers(self):
            return ["SomethingElse", "CPUExecutionProvider"]

    build = built("onnxruntime:float32")
    monkeypatch.setattr(ort, "InferenceSession", Session)
    with pytest.raises(UnavailableError, match=r"CPUExecutionProvider, found \['SomethingElse'"):
        build.open()


def test_threads_and_streams_share_the_cores():
    from edgevit.targets.base import OpenOptions

    def threads(**options):
        return onnxruntime._session_options(OpenOptions(**options)).intra_op_num_threads

    assert threads(threads=4) == 4
    assert threads(threads=4, streams=2) == 2
    assert threads(threads=1, streams=2) == 1
    assert threads(streams=2) == 1
    assert threads() == 0, "the engine's choice"


def test_a_float_layer_among_integers_is_warned_about():
    operators = {
        "head": "FusedMatMul",
        "head.weight.dequantize": "DequantizeLinear",
        "blocks.0.attn.qkv_quant": "MatMulIntegerToFloat",
        "patch_embed.proj_nchwc": "Conv",
    }
    layers = {layer.name: (layer.requested, layer.executed) for layer in onnxruntime._layers(operators, int8=True)}
    assert layers == {
        "head": ("int8", "float32"),
        "blocks.0.attn.qkv": ("int8", "int8"),
        "patch_embed.proj": ("float32", "float32"),
    }


def test_a_graph_that_it_refuses_is_a_build_error(tiny, tmp_path):
    model = onnx.load(tiny.onnx.path)
    model.graph.node[-1].op_type = "Nonsense"
    onnx.save(model, tmp_path / "wrong.onnx")
    source = BuildSource(float_model=None, onnx=msgspec.structs.replace(tiny.onnx, path=tmp_path / "wrong.onnx"))
    (out := tmp_path / "out").mkdir()
    with pytest.raises(BuildError, match=r"ONNX Runtime refused.*Nonsense") as caught:
        onnxruntime.build(source, "float32", {}, out)
    assert "\n" not in str(caught.value)


def test_weights_beside_the_model_come_along(build_with, built, tiny, tmp_path, monkeypatch, sessions):
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    monkeypatch.setattr(storage, "ONE_FILE_LIMIT", 1000)
    path = tmp_path / "big.onnx"
    storage.save(storage.load(tiny.onnx.path), path)
    big = build_with(msgspec.structs.replace(tiny.onnx, path=path), "onnxruntime:float32")
    assert sorted(file.name for file in big.directory.iterdir()) == ["model.onnx", "model.onnx.data"]
    path.unlink()
    storage.data_path(path).unlink()
    sessions.append(session := big.open())
    sessions.append(small := built("onnxruntime:float32").open())
    np.testing.assert_allclose(session.run(tiny.images)["logits"], small.run(tiny.images)["logits"], atol=1e-5)


@pytest.mark.parametrize("target", ["onnxruntime:float32", "onnxruntime:int8", "ort-mobile:float32", "ort-mobile:int8"])
def test_weights_that_were_beside_the_graph_are_inside_a_small_build(
    build_with, built, tiny, target, monkeypatch, sessions
):
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    build = build_with(tiny.onnx, target, tiny.plan)
    names = {"model.onnx"} if target.startswith("onnxruntime") else {"model.ort", "required_operators_and_types.config"}
    assert {file.name for file in build.directory.iterdir()} == names
    sessions.append(session := build.open())
    sessions.append(small := built(target).open())
    np.testing.assert_array_equal(session.run(tiny.images)["logits"], small.run(tiny.images)["logits"])


def test_unoptimized_weights_beside_the_model_come_along(build_with, tiny, tmp_path, monkeypatch, sessions):
    monkeypatch.setattr(storage, "ONE_FILE_LIMIT", 1000)
    big = build_with(tiny.onnx, "onnxruntime:float32", optimize="no")
    sessions.append(session := big.open())
    assert session.run(tiny.images)["logits"].shape == (12, 10)
