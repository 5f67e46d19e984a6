"""The names of the zoo and what each stands for. Importing this needs no torch."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevit.errors import InputError
from edgevit.types import ImagePreprocess
from edgevit.zoo.config import ViTConfig

_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""dim, depth, heads: Table 1 of arXiv:2010.11929 for base and large, DeiT (arXiv:2012.12877) for tiny and small."""

_RESOLUTIONS = {224: 0.9, 384: 1.0}
"""Pixels to crop fraction, as timm's `vit_*_patch16_*` have them."""

DIGITS = "digits-vit"


class ZooEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the zoo: everything about it but its parameters."""

    name: str
    config: ViTConfig
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    checkpoint: Path | None = None
    """The directory with `model.safetensors`; None for sizes that exist untrained, for speed and scale only."""
    calibration: str | None = None
    evaluation: str | None = None


def zoo_names() -> tuple[str, ...]:
    """Every name that `find_entry` knows, the trained one first."""
    return (DIGITS, *(f"vit-{size}-{pixels}" for pixels in _RESOLUTIONS for size in _SIZES))


def find_entry(name: str) -> ZooEntry:
    """The entry of that name. Raises InputError with the choices for any other."""
    if name == DIGITS:
        return _digits()
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


def _digits() -> ZooEntry:
    return ZooEntry(
        name=DIGITS,
        config=ViTConfig(image_size=(48, 48), channels=1, dim=96, depth=6, heads=4, classes=10),
        preprocess=ImagePreprocess(mode="L", size=(48, 48), resize="exact", mean=(0.5,), std=(0.5,)),
        labels=tuple("0123456789"),
        checkpoint=Path(__file__).parent / "checkpoints" / DIGITS,
        calibration="zoo:digits-vit:calibration",
        evaluation="zoo:digits-vit:evaluation",
    )
