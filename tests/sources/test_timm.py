"""`timm:ARCH`: published checkpoints, by their names and shapes, load unchanged."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, load_timm
from edgevit.sources.timm import timm_names

INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def published(dim: int, pixels: int = 224, classes: int = 1000) -> dict[str, torch.Tensor]:
    """A state dict as DeiT's tiny to base files have it, from timm's names for base with the width replaced."""
    fixture = Path(__file__).parents[1] / "zoo" / "timm_vit_base_patch16_224.json"
    widths = {768: dim, 3 * 768: 3 * dim, 4 * 768: 4 * dim, 197: 1 + (pixels // 16) ** 2, 1000: classes}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in json.loads(fixture.read_text()).items():
        # The patch kernel's 3 x 16 x 16 = 768 inputs are separate dimensions, so every 768 here is the width.
        sides = [widths.get(side, side) for side in shape]
        state[name] = torch.randn(sides, generator=generator) / math.sqrt(dim)
    return state


def test_an_original_deit_file_loads_unchanged(tmp_path: Path) -> None:
    state = published(192)
    torch.save(
        {"model": state, "args": argparse.Namespace(epochs=300)}, tmp_path / "deit_tiny_patch16_224-a1311bcf.pth"
    )
    model = load_timm("deit_tiny_patch16_224", tmp_path / "deit_tiny_patch16_224-a1311bcf.pth")
    loaded = model.module.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert model.trained
    assert model.name == "deit_tiny_patch16_224"
    assert (model.preprocess.mean, model.preprocess.std) == IMAGENET
    assert model.notes == ("took the parameters under 'model', left args",)
    assert model.module(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)


def test_a_timm_safetensors_file_loads_unchanged(tmp_path: Path) -> None:
    state = published(192)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_timm("vit_tiny_patch16_224", tmp_path / "model.safetensors")
    assert all(torch.equal(model.module.state_dict()[name], state[name]) for name in state)
    assert (model.preprocess.mean, model.preprocess.std) == INCEPTION
    assert (model.preprocess.crop_fraction, model.preprocess.interpolation, model.notes) == (0.9, "bicubic", ())


def test_a_fine_tuned_head_keeps_its_classes(tmp_path: Path) -> None:
    save_file(published(192, classes=7), tmp_path / "flowers.safetensors")
    model = load_timm("deit_tiny_patch16_224", tmp_path / "flowers.safetensors", SourceOptions(labels=tuple("abcdefg")))
    assert model.signature.outputs[0].shape == ("batch", 7)
    assert model.labels == tuple("abcdefg")


@pytest.mark.parametrize("image_size", [None, (384, 384), (224, 320)])
def test_positions_of_another_resolution_are_interpolated(tmp_path: Path, image_size: tuple[int, int] | None) -> None:
    save_file(published(192, pixels=224), tmp_path / "at224.safetensors")
    model = load_timm("vit_tiny_patch16_384", tmp_path / "at224.safetensors", SourceOptions(image_size=image_size))
    height, width = image_size or (384, 384)
    assert model.module.pos_embed.shape[1] == 1 + height // 16 * (width // 16)
    assert f"from 14x14 to {height // 16}x{width // 16} patches" in model.notes[0]
    assert model.preprocess.crop_fraction == 1.0


def test_a_grid_that_cannot_be_told_is_not_guessed(tmp_path: Path) -> None:
    state = published(192)
    state["pos_embed"] = torch.zeros(1, 1 + 150, 192)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=r"pos_embed: expected \(1, 197, 192\), found \(1, 151, 192\)"):
        load_timm("vit_tiny_patch16_224", tmp_path / "odd.safetensors")


def test_a_distilled_or_narrower_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    state = {**published(192), "dist_token": torch.zeros(1, 1, 192), "head_dist.weight": torch.zeros(1000, 192)}
    save_file(state, tmp_path / "distilled.safetensors")
    with pytest.raises(CheckpointError, match=r"2 unexpected \(dist_token, head_dist.weight\)"):
        load_timm("deit_tiny_patch16_224", tmp_path / "distilled.safetensors")
    with pytest.raises(
        CheckpointError, match=r"of another shape \(cls_token: expected \(1, 1, 384\), found \(1, 1, 192\)"
    ):
        load_timm("deit_small_patch16_224", tmp_path / "distilled.safetensors")


def test_the_architectures_are_the_promised_ones() -> None:
    vit = {f"vit_{size}_patch16_{px}" for size in ("tiny", "small", "base", "large") for px in (224, 384)}
    deit = {f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")} | {"deit_base_patch16_384"}
    assert set(timm_names()) == vit | deit


def test_an_unknown_architecture_and_missing_weights_say_what_to_do() -> None:
    with pytest.raises(InputError, match="choose one of: vit_tiny_patch16_224"):
        load_timm("resnet50", Path("weights.pth"))
    with pytest.raises(InputError, match="add --weights FILE"):
        load_timm("vit_tiny_patch16_224", None)
