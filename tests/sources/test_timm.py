"""`timm:ARCH`: published checkpoints, by their names and shapes, load unchanged."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, load_timm
from edgevit.sources.timm import timm_names
from edgevit.types import ImagePreprocess, OnnxModel

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


@pytest.mark.parametrize("image_size", [None, (160, 256)])
def test_a_distilled_deit_loads_unchanged(tmp_path: Path, image_size: tuple[int, int] | None) -> None:
    """Names and shapes are timm's; second token and second head are in use, and positions keep both tokens' rows."""
    fixture = Path(__file__).parents[1] / "zoo" / "timm_deit_tiny_distilled_patch16_224.json"
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) / 14 for name, shape in json.loads(fixture.read_text()).items()
    }
    torch.save({"model": state}, tmp_path / "deit_tiny_distilled_patch16_224-b40b3cf7.pth")
    options = SourceOptions(image_size=image_size)
    model = load_timm(
        "deit_tiny_distilled_patch16_224", tmp_path / "deit_tiny_distilled_patch16_224-b40b3cf7.pth", options
    )
    loaded = model.module.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state if name != "pos_embed")
    assert torch.equal(loaded["pos_embed"][:, :2], state["pos_embed"][:, :2])
    assert (model.preprocess.mean, model.preprocess.std) == IMAGENET
    height, width = image_size or (224, 224)
    assert loaded["pos_embed"].shape[1] == 2 + height // 16 * (width // 16)
    pixels = torch.randn(2, 3, height, width, generator=generator)
    both = model.module(pixels)
    heads = []
    for silent in ("head", "head_dist"):
        kept = {name: value.clone() for name, value in loaded.items()}
        for part in ("weight", "bias"):
            getattr(model.module, silent).get_parameter(part).zero_()
        heads.append(model.module(pixels))
        model.module.load_state_dict(kept)
    torch.testing.assert_close(heads[0] + heads[1], both)
    assert heads[0].std() > 0.01 and heads[1].std() > 0.01


def test_a_distilled_deit_goes_through_the_graph(lower_model: Callable[..., OnnxModel], tmp_path: Path) -> None:
    from edgevit.graph.lower import check_against_torch
    from edgevit.sources.vit import untrained_vit
    from edgevit.zoo import DistilledViTConfig, ZooEntry

    config = DistilledViTConfig(image_size=(32, 48), patch_size=8, dim=32, depth=2, heads=2, classes=5)
    entry = ZooEntry(name="small", config=config, preprocess=ImagePreprocess(size=(32, 48), mean=(0.5,) * 3,
                     std=(0.5,) * 3), labels=())  # fmt: skip
    model = untrained_vit(entry, SourceOptions())
    assert min(check_against_torch(model, lower_model(model, tmp_path / "model.onnx")).values()) > 100


def test_the_architectures_are_the_promised_ones() -> None:
    vit = {f"vit_{size}_patch16_{px}" for size in ("tiny", "small", "base", "large") for px in (224, 384)}
    deit = {f"deit_{size}{kind}_patch16_224" for size in ("tiny", "small", "base") for kind in ("", "_distilled")}
    assert set(timm_names()) == vit | deit | {"deit_base_patch16_384", "deit_base_distilled_patch16_384"}


# ---------------------------------------------------------------------------------------- timm's own models

STAND_IN = """
import torch
from torch import nn

__version__ = "0.0"

class Net(nn.Module):
    def __init__(self, num_classes, img_size):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)
        self.pretrained_cfg = {"classifier": "fc", "crop_mode": CROP}
    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

def list_models():
    return ["net_tiny", "net_small"]

def create_model(name, pretrained, num_classes=1000, img_size=None):
    assert not pretrained, "nothing is downloaded"
    return Net(num_classes, img_size)

class data:
    @staticmethod
    def resolve_model_data_config(model):
        return {"input_size": (3, 24, 32), "interpolation": "bilinear", "crop_pct": 0.8,
                "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_mode": model.pretrained_cfg["crop_mode"]}
"""
"""What of timm is called, as timm has it: without a torchvision for this torch, timm itself does not import."""


@pytest.fixture
def with_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """(crop mode) -> a stand-in for timm is installed."""

    def install(crop: str) -> None:
        (tmp_path / "installed").mkdir()
        (tmp_path / "installed" / "timm.py").write_text(STAND_IN.replace("CROP", repr(crop)))
        monkeypatch.syspath_prepend(tmp_path / "installed")

    sys.modules.pop("timm", None)
    yield install
    sys.modules.pop("timm", None)


def other(classes: int = 7) -> dict[str, torch.Tensor]:
    shapes = {"conv.weight": (4, 3, 3, 3), "norm.weight": (4,), "norm.bias": (4,), "norm.running_mean": (4,),
              "norm.running_var": (4,), "fc.weight": (classes, 4), "fc.bias": (classes,)}  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {**state, "norm.num_batches_tracked": torch.tensor(3)}


@pytest.mark.parametrize(("crop", "resize"), [("center", "shortest"), ("squash", "exact")])
def test_an_architecture_that_only_timm_has(
    with_timm: Callable[[str], None], crop: str, resize: str, tmp_path: Path
) -> None:
    with_timm(crop)
    state = other()
    save_file({f"module.{name}": value for name, value in state.items()}, tmp_path / "net.safetensors")
    model = load_timm("net_tiny", tmp_path / "net.safetensors", SourceOptions(labels=tuple("abcdefg")))
    assert model.preprocess == ImagePreprocess(
        size=(24, 32), resize=resize, crop_fraction=0.8, interpolation="bilinear", mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )  # fmt: skip
    assert (model.labels, model.signature.inputs[0].shape) == (tuple("abcdefg"), ("batch", 3, 24, 32))
    assert model.notes == (
        "timm 0.0's own code",
        "took the prefix 'module.' off every parameter's name",
        "folded 1 batch norms into their convolutions",
    )
    pixels = torch.randn(2, 3, 24, 32)
    scale = state["norm.weight"] / (state["norm.running_var"] + 1e-5).sqrt()
    seen = torch.nn.functional.conv2d(pixels, state["conv.weight"]) - state["norm.running_mean"][:, None, None]
    seen = torch.relu(seen * scale[:, None, None] + state["norm.bias"][:, None, None]).mean((2, 3))
    torch.testing.assert_close(model.module(pixels), seen @ state["fc.weight"].T + state["fc.bias"])


def test_what_timm_cannot_do_is_said(with_timm: Callable[[str], None], tmp_path: Path) -> None:
    with_timm("border")
    save_file(other(), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="found 'net_tinny'; choose one of: net_tiny"):
        load_timm("net_tinny", tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="add --weights FILE"):
        load_timm("net_tiny", None)
    with pytest.raises(InputError, match="crop_mode border; give --preprocess FILE"):
        load_timm("net_tiny", tmp_path / "net.safetensors")
    save_file({name: value for name, value in other().items() if name != "conv.weight"}, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(conv.weight\)"):
        load_timm("net_tiny", tmp_path / "cut.safetensors")


def test_an_unknown_architecture_and_missing_weights_say_what_to_do() -> None:
    with pytest.raises(InputError, match="choose one of: vit_tiny_patch16_224"):
        load_timm("resnet50", Path("weights.pth"))
    with pytest.raises(InputError, match="add --weights FILE"):
        load_timm("vit_tiny_patch16_224", None)
