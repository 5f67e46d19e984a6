"""`zoo:NAME` as float models."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError, InputError, UnavailableError
from edgevit.sources import SourceOptions, load_zoo
from edgevit.types import ImagePreprocess, TensorSpec
from edgevit.zoo import find_entry
from edgevit.zoo.vit import initialize_vit


def test_an_untrained_size_is_marked_and_complete() -> None:
    model = load_zoo("vit-tiny-224")
    assert not model.trained
    assert model.signature.inputs == (TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 224, 224)),)
    assert model.signature.outputs == (TensorSpec(name="logits", dtype="float32", shape=("batch", 1000)),)
    assert (model.depth, model.calibration, model.evaluation, len(model.labels)) == (12, None, None, 1000)
    assert not model.module.training
    assert not any(value.requires_grad for value in model.module.parameters())
    assert model.module(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)


def test_the_digest_follows_parameters_and_architecture(tmp_path: Path) -> None:
    published = load_zoo("digits-vit")
    assert published.digest == load_zoo("digits-vit").digest
    assert len(published.digest) == 64
    state = {name: value.clone() for name, value in published.module.state_dict().items()}
    state["head.bias"][3] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    assert load_zoo("digits-vit", tmp_path / "other.safetensors").digest != published.digest
    assert load_zoo("digits-vit", options=SourceOptions(image_size=(48, 64))).digest != published.digest


def test_weights_handed_in_replace_the_published_ones(tmp_path: Path) -> None:
    state = initialize_vit(find_entry("digits-vit").config, seed=5).state_dict()
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "mine.safetensors")
    model = load_zoo("digits-vit", tmp_path / "mine.safetensors")
    assert model.trained
    assert model.notes == ("turned float16 parameters to float32",)
    assert torch.equal(model.module.head.weight, state["head.weight"].half().float())


def test_weights_that_are_missing_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found no file"):
        load_zoo("vit-tiny-224", tmp_path / "gone.pth")
    state = initialize_vit(find_entry("digits-vit").config).state_dict()
    del state["blocks.3.attn.proj.bias"]
    save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(blocks.3.attn.proj.bias\)"):
        load_zoo("digits-vit", tmp_path / "mine.safetensors")


def test_another_image_size_interpolates_the_positions_once() -> None:
    model = load_zoo("digits-vit", options=SourceOptions(image_size=(48, 80)))
    assert model.module.pos_embed.shape == (1, 1 + 3 * 5, 96)
    assert model.signature.inputs[0].shape == ("batch", 1, 48, 80)
    assert model.preprocess.size == (48, 80)
    assert model.module(torch.zeros(2, 1, 48, 80)).shape == (2, 10)
    assert "interpolated the position embedding from 3x3 to 3x5 patches" in model.notes


def test_an_impossible_image_size_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of the patch size 16, found 50x50"):
        load_zoo("digits-vit", options=SourceOptions(image_size=(50, 50)))


def test_labels_and_preprocessing_can_be_given_and_must_fit() -> None:
    labels = tuple("abcdefghij")
    own = ImagePreprocess(mode="L", size=(48, 48), mean=(0.4,), std=(0.2,))
    model = load_zoo("digits-vit", options=SourceOptions(labels=labels, preprocess=own))
    assert (model.labels, model.preprocess) == (labels, own)
    with pytest.raises(InputError, match="expected 10 labels, one per class of the model, found 2"):
        load_zoo("digits-vit", options=SourceOptions(labels=("a", "b")))
    colour = ImagePreprocess(size=(48, 48), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="1 x 48 x 48 for digits-vit, found 3 x 48 x 48"):
        load_zoo("digits-vit", options=SourceOptions(preprocess=colour))


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError, match="digits-vit, vit-tiny-224"):
        load_zoo("vit-giant-224")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnavailableError, match=r"loading zoo:digits-vit needs the package 'torch'.*edgevit\[export\]"):
        load_zoo("digits-vit")
