"""timm's and DeiT's published checkpoints: `timm:ARCH`.

The ViT and DeiT families are the zoo's own architecture, and timm is not imported for them; for all others it is.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevit.errors import InputError
from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require
from edgevit.sources.timm_others import load_other
from edgevit.sources.vit import load_vit
from edgevit.types import FloatModel, ImagePreprocess
from edgevit.zoo import DistilledViTConfig, ZooEntry, vit_config

# As timm's vision_transformer.py (`_cfg`: inception mean and deviation) and deit.py (`_cfg`: ImageNet's) have them;
# both crop 0.9 at 224 and 1.0 at 384. DeiT's own evaluation resizes to 256 first, which is a crop of 0.875.
_FAMILIES: tuple[tuple[str, tuple[str, ...], tuple[float, ...], tuple[float, ...]], ...] = (
    ("vit", ("tiny", "small", "base", "large"), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("deit", ("tiny", "small", "base"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
_CROPS = {224: 0.9, 384: 1.0}


def timm_names() -> tuple[str, ...]:
    """Every architecture that `timm:` knows without timm."""
    return tuple(_entries())


def load_timm(name: str, weights: Path | None, options: SourceOptions | None = None) -> FloatModel:
    """The architecture of that name in timm with the parameters in `weights`, which must be given.

    Preprocessing is what timm records for the family's ImageNet weights. Raises InputError for an unknown name or
    no weights, CheckpointError for weights that do not fit, UnavailableError without torch.
    """
    entry = _entries().get(name)
    if entry is None:
        return load_other(name, weights, options or SourceOptions(), timm_names())
    if weights is None:
        raise InputError(
            f"expected the weights of timm:{name}, found none; add --weights FILE (edgevit downloads nothing)"
        )
    require("torch", f"loading timm:{name}")
    return load_vit(entry, weights, options or SourceOptions())


def _entries() -> dict[str, ZooEntry]:
    entries = {}
    for family, sizes, mean, std in _FAMILIES:
        for pixels, crop in _CROPS.items():
            for size in sizes:
                if (family, pixels) == ("deit", 384) and size != "base":
                    continue  # DeiT published only its base size at 384.
                name = f"{family}_{size}_patch16_{pixels}"
                preprocess = ImagePreprocess(size=(pixels, pixels), crop_fraction=crop, mean=mean, std=std)
                config = vit_config(size, pixels)
                entries[name] = ZooEntry(name=name, config=config, preprocess=preprocess, labels=())
                if family == "deit":
                    name = name.replace("_patch16", "_distilled_patch16")
                    config = DistilledViTConfig(**msgspec.structs.asdict(config))
                    entries[name] = ZooEntry(name=name, config=config, preprocess=preprocess, labels=())
    return entries
