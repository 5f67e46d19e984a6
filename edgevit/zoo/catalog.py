"""The names of the zoo and what each stands for. Importing this needs no torch."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevit.errors import CheckpointError, InputError
from edgevit.types import ImagePreprocess, Value
from edgevit.zoo.config import ViTConfig

_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""dim, depth, heads: Table 1 of arXiv:2010.11929 for base and large, DeiT (arXiv:2012.12877) for tiny and small."""

_RESOLUTIONS = {224: 0.9, 384: 1.0}
"""Pixels to crop fraction, as timm's `vit_*_patch16_*` have them."""

DIGITS = "digits-vit"

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CARD_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class ModelCard(Value, frozen=True, kw_only=True):
    """What is published beside trained weights: `config.json` in the checkpoint's directory."""

    architecture: ViTConfig
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    calibration: str
    """The set that the model was trained on, and that calibration draws from."""
    evaluation: str
    """The held-out set, in no way used for training or for choosing settings."""
    accuracy: float
    """Top-1 on the whole evaluation set in float32, percent."""
    samples: int
    """Images in the evaluation set."""
    split: str
    """The rule that parts the two sets."""
    script: str
    """What trained it, from the top of the repository."""
    training: dict[str, float | int | str]
    """The script's settings."""


def read_card(path: Path) -> ModelCard:
    """The card at `path`. Raises CheckpointError when it is missing or not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"expected the published checkpoint's card, found '{error}' at {path}; install edgevit again"
        ) from error


class ZooEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the zoo: everything about it but its parameters."""

    name: str
    config: ViTConfig
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    checkpoint: Path | None = None
    """The published weights; None for sizes that exist untrained, for speed and scale only."""
    calibration: str | None = None
    evaluation: str | None = None


def zoo_names() -> tuple[str, ...]:
    """Every name that `find_entry` knows, the trained one first."""
    return (DIGITS, *(f"vit-{size}-{pixels}" for pixels in _RESOLUTIONS for size in _SIZES))


def find_entry(name: str) -> ZooEntry:
    """The entry of that name. Raises InputError with the choices for any other."""
    if name == DIGITS:
        return _published(name)
    family, _, pixels = name.rpartition("-")
    size = family.removeprefix("vit-")
    if name not in zoo_names():
        raise InputError(f"expected a model of the zoo, found '{name}'; choose one of: {', '.join(zoo_names())}")
    return _untrained(name, size, int(pixels))


def vit_config(size: str, pixels: int, classes: int = 1000) -> ViTConfig:
    """The configuration of ViT-`size`/16 for square images; `size` is tiny, small, base or large."""
    dim, depth, heads = _SIZES[size]
    return ViTConfig(image_size=(pixels, pixels), dim=dim, depth=depth, heads=heads, classes=classes)


def _untrained(name: str, size: str, pixels: int) -> ZooEntry:
    preprocess = ImagePreprocess(
        size=(pixels, pixels), crop_fraction=_RESOLUTIONS[pixels], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    config = vit_config(size, pixels)
    return ZooEntry(name=name, config=config, preprocess=preprocess, labels=tuple(map(str, range(config.classes))))


def _published(name: str) -> ZooEntry:
    folder = CHECKPOINTS / name
    card = read_card(folder / CARD_FILE)
    return ZooEntry(
        name=name,
        config=card.architecture,
        preprocess=card.preprocess,
        labels=card.labels,
        checkpoint=folder / WEIGHTS_FILE,
        calibration=card.calibration,
        evaluation=card.evaluation,
    )
