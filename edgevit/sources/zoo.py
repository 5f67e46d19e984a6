"""Models of the zoo: `zoo:NAME`."""

from __future__ import annotations

from pathlib import Path

from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require
from edgevit.sources.vit import load_vit, untrained_vit
from edgevit.types import FloatModel
from edgevit.zoo import find_entry


def load_zoo(name: str, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The zoo's model of that name, float32, in evaluation mode.

    With `weights` its parameters come from that checkpoint, otherwise from the one published with the name; a size
    that has none is initialized from seed 0 and marked `trained=False`. Input `pixel_values` float32
    (batch, channels, height, width), output `logits` float32 (batch, classes).
    Raises InputError for an unknown name, CheckpointError for weights that do not fit, UnavailableError without torch.
    """
    entry = find_entry(name)
    require("torch", f"loading zoo:{name}")
    options = options or SourceOptions()
    weights = weights or entry.checkpoint
    if weights is None:
        return untrained_vit(entry, options)
    return load_vit(entry, weights, options)
