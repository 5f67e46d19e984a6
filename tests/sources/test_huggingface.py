"""A Hugging Face directory of every family: loaded, traced, lowered, and the same numbers as transformers' own."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, open_source
from edgevit.types import FloatModel, ImagePreprocess, OnnxModel

Directory = Callable[..., Path]

CLASSIFIERS = ("vit", "deit", "deit-distilled", "beit", "dinov2-classifier", "dinov2-registers", "swin", "swinv2",
               "mobilevit", "clip-classifier", "convnext")  # fmt: skip
ATTENTION = {"vit": 2, "swin": 3, "swinv2": 3, "mobilevit": 9, "convnext": 0}
"""Attention blocks that the graph must show; 1 for the others."""
FUSED = set(CLASSIFIERS) - {"swinv2", "mobilevit", "convnext"}
"""Families whose attention is one operator; Swin V2 normalizes q and k, and MobileViT's own code is decomposed."""


def own(model: Any, pixels: torch.Tensor, output: str) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=pixels)[output]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_classifier_keeps_its_numbers_through_the_graph(
    family: str,
    huggingface: Callable[..., Any],
    huggingface_directory: Directory,
    lower_model: Callable[..., OnnxModel],
    tmp_path: Path,
    offline: None,
) -> None:
    from edgevit.graph import storage
    from edgevit.graph.attention import count_attention
    from edgevit.graph.layers import quantizable_layers
    from edgevit.graph.lower import check_against_torch

    model = open_source(str(huggingface_directory(family)))
    assert (model.task, model.labels, model.trained) == ("image-classification", tuple("abcde"), True)
    side = 64 if family == "mobilevit" else 32
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = own(huggingface(family), pixels, "logits")
    torch.testing.assert_close(model.module(pixels), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01  # a model whose signal dies says nothing

    onnx = lower_model(model, tmp_path / "model.onnx")
    assert min(check_against_torch(model, onnx).values()) > 80
    graph = storage.load(onnx.path)
    assert count_attention(graph) == ATTENTION.get(family, 1)
    fused = [node for node in graph.graph if node.op_type == "Attention"]
    assert bool(fused) == (family in FUSED)
    layers = {layer.name for layer in quantizable_layers(graph)}
    weighted = {
        f"{name}.weight"
        for name, part in model.module.named_modules()
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d) and "continuous_position_bias_mlp" not in name
    }
    assert weighted <= layers


@pytest.mark.parametrize(
    ("family", "output", "note"),
    [
        ("vit-features", "pooler_output", "features are pooler_output of ViTModel"),
        ("dinov2", "pooler_output", "features are pooler_output of Dinov2Model"),
        ("clip", "image_embeds", "features are image_embeds of CLIPVisionModelWithProjection"),
    ],
)
def test_features_are_the_models_own(
    family: str,
    output: str,
    note: str,
    huggingface: Callable[..., Any],
    huggingface_directory: Directory,
    lower_model: Callable[..., OnnxModel],
    tmp_path: Path,
) -> None:
    from edgevit.graph.lower import check_against_torch

    model = open_source(str(huggingface_directory(family)))
    assert (model.task, model.labels, model.depth) == ("image-features", (), 1)
    assert note in model.notes
    assert model.signature.outputs[0].name == "features"
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = huggingface(family)
    if family == "clip":
        with torch.no_grad():
            expected = theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)
        assert any("parameters that the task does not use" in note for note in model.notes)
    else:
        expected = own(theirs, pixels, output)
    torch.testing.assert_close(model.module(pixels), expected, rtol=1e-4, atol=1e-4)
    assert min(check_against_torch(model, lower_model(model, tmp_path / "model.onnx")).values()) > 80


def test_a_classifier_gives_its_features_on_request(
    huggingface: Callable[..., Any], huggingface_directory: Directory
) -> None:
    """The checkpoint has no pooler, so the features are the class token and not a random projection of it."""
    model = open_source(str(huggingface_directory("vit")), options=SourceOptions(task="image-features"))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = huggingface("vit").vit(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(model.module(pixels), expected, rtol=1e-4, atol=1e-4)
    assert "the checkpoint has no pooler" in model.notes
    assert "features are class_token of ViTModel" in model.notes


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("form", ["sharded", "bin", "half"])
def test_every_form_of_weights_gives_the_same_model(form: str, huggingface_directory: Directory) -> None:
    whole = open_source(str(huggingface_directory("vit")))
    directory = huggingface_directory("vit", save={"max_shard_size": "20KB"} if form == "sharded" else None)
    file = directory / "model.safetensors"
    if form == "sharded":
        assert len(list(directory.glob("model-*.safetensors"))) > 1
    else:
        from safetensors.torch import load_file, save_file

        state = load_file(file)
        file.unlink()
        if form == "bin":
            torch.save(state, directory / "pytorch_model.bin")
        else:
            save_file({name: value.half() for name, value in state.items()}, file, metadata={"format": "pt"})
    model = open_source(str(directory))
    tolerance = 5e-3 if form == "half" else 0.0
    for (name, one), (other, two) in zip(whole.module.named_parameters(), model.module.named_parameters(), strict=True):
        assert (name, two.dtype) == (other, torch.float32)
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)
    assert model.notes == (("turned F16 parameters to float32",) if form == "half" else ())
    assert (model.digest == whole.digest) == (form != "half")


def test_another_size_interpolates_the_positions_once(huggingface_directory: Directory, tmp_path: Path) -> None:
    from edgevit.graph.capture import capture
    from edgevit.graph.lower import check_against_torch, lower

    directory = huggingface_directory("dinov2-classifier")
    model = open_source(str(directory), options=SourceOptions(image_size=(48, 64)))
    assert model.signature.inputs[0].shape == ("batch", 3, 48, 64)
    assert model.preprocess.size == (48, 64)
    assert "interpolated the position embeddings to 48x64 pixels" in model.notes
    onnx = lower(capture(model), model, tmp_path / "model.onnx")
    assert min(check_against_torch(model, onnx).values()) > 80
    from edgevit.graph import storage

    assert "Resize" not in {node.op_type for node in storage.load(onnx.path).graph}


def test_own_preprocessing_and_labels_win(huggingface_directory: Directory) -> None:
    given = ImagePreprocess(size=(32, 32), resize="exact", mean=(0.1,) * 3, std=(0.2,) * 3)
    options = SourceOptions(preprocess=given, labels=("v", "w", "x", "y", "z"))
    directory = huggingface_directory("vit")
    (directory / "preprocessor_config.json").unlink()
    model = open_source(str(directory), options=options)
    assert (model.preprocess, model.labels) == (given, ("v", "w", "x", "y", "z"))
    with pytest.raises(InputError, match="expected 5 labels"):
        open_source(str(directory), options=SourceOptions(preprocess=given, labels=("v",)))


# ---------------------------------------------------------------------------------------------- bad input


def edit(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def shard(directory: Path, **changes: str) -> None:
    index = directory / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"].update(changes)
    index.write_text(json.dumps(content))


CODE = {"AutoModelForImageClassification": "modeling_mine.Mine"}
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "a config.json, found none"),
    "broken config": (lambda d: (d / "config.json").write_text("{"), "expected JSON"),
    "a list": (lambda d: (d / "config.json").write_text("[]"), "found list"),
    "remote code": (lambda d: edit(d / "config.json", auto_map=CODE), "'auto_map' .* never run"),
    "nested remote code": (lambda d: edit(d / "config.json", vision_config={"auto_map": CODE}), "'auto_map'"),
    "quantized": (lambda d: edit(d / "config.json", quantization_config={"bits": 4}), "before quantization"),
    "no type": (lambda d: edit(d / "config.json", model_type=None), "a model_type"),
    "unknown type": (lambda d: edit(d / "config.json", model_type="vit9000"), "transformers is new enough"),
    "adapter": (lambda d: (d / "adapter_config.json").write_text("{}"), "an adapter"),
    "other weights": (lambda d: edit(d / "config.json", transformers_weights="../x.safetensors"), "usual names"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "found none of model.safetensors"),
    "truncated": (lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:4000]),
                  "expected a c"),
    "empty": (lambda d: (d / "model.safetensors").write_bytes(b""), "an empty file"),
    "web page": (lambda d: (d / "model.safetensors").write_bytes(b"<!doctype html><p>404 not found"), "web page"),
    "wider": (lambda d: edit(d / "config.json", intermediate_size=40), "of another shape"),
    "deeper": (lambda d: edit(d / "config.json", num_hidden_layers=3), "missing"),
    "labels": (lambda d: edit(d / "config.json", id2label={str(i + 1): "x" for i in range(5)}), "classes 0 to 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_directory_is_one_line(case: str, huggingface_directory: Directory, offline: None) -> None:
    directory = huggingface_directory("vit")
    spoil, words = SPOILED[case]
    spoil(directory)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_source(str(directory))
    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classifier.weight": "../../elsewhere.safetensors"}, "which leads outside its directory"),
        ({"classifier.weight": "model-00009-of-00009.safetensors"}, "no model-00009-of-00009.safetensors"),
    ],
)
def test_shards_that_are_missing_or_outside(
    changes: dict[str, str], words: str, huggingface_directory: Directory
) -> None:
    directory = huggingface_directory("vit", save={"max_shard_size": "20KB"})
    shard(directory, **changes)
    with pytest.raises(CheckpointError, match=re.escape(words)):
        open_source(str(directory))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("the bomb went off",))


def test_a_pickle_that_would_run_code_is_refused(
    huggingface_directory: Directory, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = huggingface_directory("vit")
    (directory / "model.safetensors").unlink()
    torch.save({"vit.embeddings.cls_token": Bomb()}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        open_source(str(directory))
    assert "bomb" not in capfd.readouterr().out


def test_not_a_number_in_the_weights_is_found(huggingface_directory: Directory) -> None:
    from safetensors.torch import load_file, save_file

    directory = huggingface_directory("vit")
    state = load_file(directory / "model.safetensors")
    state["classifier.bias"][2] = torch.nan
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 parameters \(classifier.bias\)"):
        open_source(str(directory))


def test_preprocessing_is_never_guessed(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("vit")
    stored = json.loads((directory / "preprocessor_config.json").read_text())
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="found no preprocessor_config.json; put the .* or give --preprocess FILE"):
        open_source(str(directory))
    (directory / "processor_config.json").write_text(json.dumps({"image_processor": stored}))
    assert open_source(str(directory)).preprocess.size == (32, 32)


def test_a_size_the_model_cannot_take_is_said(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("vit")
    with pytest.raises(InputError, match="to take 3 x 4 x 4 images"):
        open_source(str(directory), options=SourceOptions(image_size=(4, 4)))


def test_a_task_that_cannot_be_told_or_done_is_said(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("vit-features")
    edit(directory / "config.json", architectures=["ViTForMaskedImageModeling"])
    with pytest.raises(InputError, match="found ViTForMaskedImageModeling; give --task"):
        open_source(str(directory))
    with pytest.raises(CheckpointError, match=r"2 missing \(classifier.bias, classifier.weight\)"):
        open_source(str(directory), options=SourceOptions(task="image-classification"))


def test_weights_beside_a_directory_are_one_too_many(huggingface_directory: Directory) -> None:
    with pytest.raises(InputError, match="leave one out"):
        open_source(str(huggingface_directory("vit")), Path("w.safetensors"))


def test_the_digest_tells_models_apart(huggingface_directory: Directory) -> None:
    def digest(**options: Any) -> str:
        model: FloatModel = open_source(str(huggingface_directory("vit")), options=SourceOptions(**options))
        return model.digest

    assert digest() == digest()
    assert len({digest(), digest(task="image-features"), digest(image_size=(40, 40))}) == 3
