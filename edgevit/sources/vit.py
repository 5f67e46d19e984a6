"""A Vision Transformer of the zoo's architecture, its checkpoint and its preprocessing, put together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError
from edgevit.sources.checkpoint import Checkpoint, fit_state_dict, load_state_dict
from edgevit.sources.digest import module_digest
from edgevit.sources.options import SourceOptions
from edgevit.types import FloatModel, ImagePreprocess, Signature, TensorSpec
from edgevit.zoo import ViTConfig, ZooEntry

if TYPE_CHECKING:
    from edgevit.zoo.vit import VisionTransformer


def load_vit(entry: ZooEntry, weights: Path, options: SourceOptions) -> FloatModel:
    """The entry's architecture with the parameters in `weights`, float32, in evaluation mode, marked trained.

    A head for another number of classes and positions of another resolution are taken as they come: the number of
    classes is the checkpoint's, the positions are interpolated. Raises CheckpointError when anything else differs.
    """
    from edgevit.zoo.vit import empty_vit

    checkpoint = load_state_dict(weights)
    config = _with_classes(entry.config, checkpoint)
    target = msgspec.structs.replace(config, image_size=options.image_size or config.image_size)
    checkpoint = _with_positions(checkpoint, config, target)
    module = empty_vit(target)
    fit_state_dict(module, checkpoint, weights)
    return vit_model(entry, module, options, trained=True, notes=checkpoint.notes)


def untrained_vit(entry: ZooEntry, options: SourceOptions) -> FloatModel:
    """The entry's architecture initialized from seed 0 and marked untrained."""
    from edgevit.zoo.vit import initialize_vit

    config = msgspec.structs.replace(entry.config, image_size=options.image_size or entry.config.image_size)
    return vit_model(entry, initialize_vit(config), options, trained=False)


def vit_model(
    entry: ZooEntry, module: VisionTransformer, options: SourceOptions, *, trained: bool, notes: tuple[str, ...] = ()
) -> FloatModel:
    """A module of `edgevit.zoo.vit` with everything that travels with it; its parameters are frozen."""
    config = module.config
    return FloatModel(
        name=entry.name,
        module=module.eval().requires_grad_(False),
        signature=vit_signature(config),
        task="image-classification",
        preprocess=_preprocess(entry, config, options),
        labels=choose_labels(options.labels or entry.labels, config.classes, given=bool(options.labels)),
        trained=trained,
        depth=config.depth,
        calibration=entry.calibration,
        evaluation=entry.evaluation,
        digest=module_digest(module, msgspec.json.encode(config)),
        notes=notes,
    )


def vit_signature(config: ViTConfig) -> Signature:
    """Pixels in, class scores out, both with a dynamic first dimension named `batch`."""
    pixels = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", config.channels, *config.image_size))
    logits = TensorSpec(name="logits", dtype="float32", shape=("batch", config.classes))
    return Signature(inputs=(pixels,), outputs=(logits,))


def choose_labels(labels: tuple[str, ...], classes: int, *, given: bool) -> tuple[str, ...]:
    """`labels` where there is one per class, else the class numbers; labels that were `given` must fit."""
    if len(labels) == classes:
        return labels
    if given:
        raise InputError(
            f"expected {classes} labels, one per class of the model, found {len(labels)}; correct the list of labels"
        )
    return tuple(map(str, range(classes)))


def _preprocess(entry: ZooEntry, config: ViTConfig, options: SourceOptions) -> ImagePreprocess:
    if options.preprocess is None:
        return msgspec.structs.replace(entry.preprocess, size=config.image_size)
    channels = len(options.preprocess.mode)
    if (channels, options.preprocess.size) != (config.channels, config.image_size):
        height, width = options.preprocess.size
        raise InputError(
            f"expected preprocessing to {config.channels} x {config.image_size[0]} x {config.image_size[1]} for "
            f"{entry.name}, found {channels} x {height} x {width}; change its size or mode, or the image size"
        )
    return options.preprocess


def _with_classes(config: ViTConfig, checkpoint: Checkpoint) -> ViTConfig:
    head = checkpoint.state.get("head.weight")
    if head is None or head.ndim != 2:
        return config
    return msgspec.structs.replace(config, classes=head.shape[0])


def _with_positions(checkpoint: Checkpoint, own: ViTConfig, target: ViTConfig) -> Checkpoint:
    """The checkpoint with positions for `target`, from the grid it has: the architecture's own, or a square one."""
    from edgevit.zoo.vit import resize_position_embedding

    positions = checkpoint.state.get("pos_embed")
    if positions is None or positions.ndim != 3 or positions.shape[0] != 1:
        return checkpoint
    source = _source_grid(positions.shape[1] - own.prefix, own, target)
    if source is None or source == target.grid:
        return checkpoint
    resized = resize_position_embedding(positions, source, target.grid, own.prefix)
    note = "interpolated the position embedding from {}x{} to {}x{} patches".format(*source, *target.grid)
    return Checkpoint(state={**checkpoint.state, "pos_embed": resized}, notes=(*checkpoint.notes, note))


def _source_grid(patches: int, own: ViTConfig, target: ViTConfig) -> tuple[int, int] | None:
    """None where the number of patches tells no grid, so that the misfit is reported and not guessed away."""
    for grid in (own.grid, target.grid):
        if grid[0] * grid[1] == patches:
            return grid
    side = math.isqrt(max(patches, 0))
    return (side, side) if side and side * side == patches else None
