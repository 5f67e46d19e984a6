"""From a traced program to a float ONNX file: right at every batch, reproducible, and nobody's paths in it."""

from __future__ import annotations

import gc
import weakref

import msgspec
import onnx
import pytest
import torch
from torch import nn

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.capture import capture
from edgevit.graph.lower import check_against_torch, check_file, lower
from edgevit.graph.passes.attention_heads import attention_heads
from edgevit.sources import SourceOptions, open_source
from edgevit.types import TensorSpec


class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_it_computes_what_torch_computes_at_every_batch(tiny):
    assert tiny.onnx.signature == tiny.model.signature
    assert tiny.onnx.opset == 23
    closeness = check_against_torch(tiny.model, tiny.onnx, 17)
    assert sorted(closeness) == [1, 2, 3, 17]
    assert min(closeness.values()) > 100


def test_another_function_is_refused(tiny, make_vit):
    with pytest.raises(CaptureError, match=r"batch 1 within 80 dB, found -?\d"):
        check_against_torch(make_vit(untrained=True), tiny.onnx)


def test_a_fixed_batch_stays_fixed(untrained, lower_model, tmp_path):
    fixed = lower_model(untrained, tmp_path / "fixed.onnx", batch=1)
    assert fixed.signature.inputs[0].shape == (1, 3, 32, 32)
    assert fixed.signature.outputs[0].shape == (1, 10)
    assert check_against_torch(untrained, fixed).keys() == {1}
    operators = [node.op_type for node in storage.load(fixed.path).graph]
    assert operators.count("Attention") == 1
    assert "Expand" not in operators, "the class token is a constant of the known batch"


def test_the_same_model_gives_the_same_bytes_and_they_name_no_place(tiny, make_vit, lower_model, tmp_path, repository):
    again = lower_model(make_vit(), tmp_path / "again.onnx")
    assert again.digest == tiny.onnx.digest
    content = again.path.read_bytes()
    assert content == tiny.onnx.path.read_bytes()
    for word in (str(repository), "site-packages", ".py", "stack_trace", "pkg.torch", "vit.py", str(tmp_path)):
        assert word.encode() not in content
    model = onnx.load(again.path)
    assert (model.producer_name, model.doc_string, len(model.metadata_props)) == ("edgevit", "", 0)
    assert {prop.key for node in model.graph.node for prop in node.metadata_props} == {"edgevit.scope"}


def test_a_lost_attention_block_is_noticed(separate_model, tmp_path):
    deeper = msgspec.structs.replace(separate_model, depth=3)
    with pytest.raises(CaptureError, match=r"expected 3 attention blocks in the graph of wrapped, found 1"):
        lower(capture(deeper), deeper, tmp_path / "deeper.onnx")
    assert not (tmp_path / "deeper.onnx").exists()


def test_separate_projections_lower_too(separate_model, separate_onnx):
    # The signature says what the graph must have; here the output's shape is only known after lowering.
    assert separate_onnx.signature.outputs == (TensorSpec(name="y", dtype="float32", shape=("batch", 5, 16)),)
    assert min(check_against_torch(separate_model, separate_onnx).values()) > 100
    graph = storage.load(separate_onnx.path)
    assert [node.op_type for node in graph.graph].count("Reshape") == 0
    assert attention_heads(graph) == 0, "done already"


def test_an_operator_without_an_onnx_form_is_named(wrap, tmp_path):
    model = wrap(Unknown(), 4)
    with pytest.raises(CaptureError, match="bessel_j0") as caught:
        lower(capture(model), model, tmp_path / "unknown.onnx")
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert "rewrite" in message


def test_invalid_files_are_refused_in_one_line(tiny, tmp_path):
    model = onnx.load(tiny.onnx.path)
    model.graph.node[5].op_type = "Nonsense"
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(CaptureError, match=r"broken.onnx.*Nonsense") as caught:
        check_file(tmp_path / "broken.onnx")
    assert "\n" not in str(caught.value)


def test_nothing_keeps_the_weights_of_a_lowered_model(tmp_path):
    """Not even the exporter's rewriter, whose rules remember the last graph they have seen."""
    model = open_source("zoo:digits-vit", None, SourceOptions())
    lower(capture(model), model, tmp_path / "model.onnx")
    held = [weakref.ref(parameter) for parameter in model.module.parameters()]
    model = msgspec.structs.replace(model, module=None)
    gc.collect()
    assert len(held) > 10
    assert not any(parameter() is not None for parameter in held)
