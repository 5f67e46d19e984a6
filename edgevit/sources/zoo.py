"""Models of the zoo as float models: `zoo:NAME`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import missing_package
from edgevit.types import FloatModel, Signature, TensorSpec
from edgevit.zoo import ViTConfig, ZooEntry, find_entry

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FILE = "model.safetensors"


def load_zoo(name: str, weights: Path | None = None) -> FloatModel:
    """The zoo's model of that name, float32, in evaluation mode.

    With `weights` its parameters come from that checkpoint, otherwise from the one published with the name; a size
    that has none is initialized from seed 0 and marked `trained=False`. Input `pixel_values` float32
    (batch, channels, height, width), output `logits` float32 (batch, classes).
    Raises InputError for an unknown name, CheckpointError for weights that do not fit, UnavailableError without torch.
    """
    entry = find_entry(name)
    try:
        from edgevit.zoo.vit import initialize_vit
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_package("torch", "export", f"loading zoo:{name}") from error
    return vit_model(entry, initialize_vit(entry.config), trained=False)


def vit_model(entry: ZooEntry, module: nn.Module, *, trained: bool) -> FloatModel:
    """A Vision Transformer with everything that travels with it."""
    config = entry.config
    return FloatModel(
        name=entry.name,
        module=module,
        signature=vit_signature(config),
        task="image-classification",
        preprocess=entry.preprocess,
        labels=entry.labels,
        trained=trained,
        depth=config.depth,
        calibration=entry.calibration,
        evaluation=entry.evaluation,
        digest=module_digest(module, msgspec.json.encode(config)),
    )


def vit_signature(config: ViTConfig) -> Signature:
    """Pixels in, class scores out, both with a dynamic first dimension named `batch`."""
    pixels = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", config.channels, *config.image_size))
    return Signature(
        inputs=(pixels,), outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", config.classes)),)
    )


def module_digest(module: nn.Module, architecture: bytes) -> str:
    """SHA-256 over the architecture's description and every parameter and buffer, in the order of their names."""
    digest = hashlib.sha256(architecture)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().data)
    return digest.hexdigest()
