"""Models of the zoo: `zoo:NAME`."""

from __future__ import annotations

from pathlib import Path

from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require
from edgevit.sources.sequences import load_sequence
from edgevit.sources.vit import load_vit, untrained_vit
from edgevit.types import FloatModel
from edgevit.zoo import find_entry, find_sequence, sequence_names


def load_zoo(name: str, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The zoo's model of that name, float32, in evaluation mode.

    With `weights` its parameters come from that checkpoint, otherwise from the one published with the name; a size that
    has none is initialized from seed 0 and marked `trained=False`. Input `pixel_values` float32
    (batch, channels, height, width), output `logits` float32 (batch, classes); of texts see `load_sequence`.
    Raises InputError for an unknown name, CheckpointError for weights that do not fit, UnavailableError without torch.
    """
    options = options or SourceOptions()
    if name in sequence_names():
        require("torch", f"loading zoo:{name}")
        return load_sequence(find_sequence(name), weights, options)
    entry = find_entry(name)
    require("torch", f"loading zoo:{name}")
    weights = weights or entry.checkpoint
    if weights is None:
        return untrained_vit(entry, options)
    return load_vit(entry, weights, options)
