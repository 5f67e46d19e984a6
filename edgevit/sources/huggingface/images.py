"""Image models in Hugging Face layout: one tensor of pixels in, class scores or features out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.batch_norm import fold_batch_norms
from edgevit.sources.digest import module_digest
from edgevit.sources.huggingface.loading import Loading, architecture, load_model, named_labels
from edgevit.sources.huggingface.texts import TOWERS as TEXT_TOWERS
from edgevit.sources.preprocessing import FILE, GIVE_ONE, preprocess_from_config, read_preprocess
from edgevit.types import FloatModel, ImagePreprocess, Signature, Task, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from edgevit.sources.huggingface.directory import Directory
    from edgevit.sources.options import SourceOptions

TOWERS = {
    "clip": "CLIPVisionModelWithProjection",
    "metaclip_2": "MetaClip2VisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip2": "Siglip2VisionModel",
}
"""Models of an image and a text tower, to the class of the image tower: its features are what such a model is for."""
PLAIN = {"vit", "deit", "beit", "dinov2", "dinov2_with_registers", "clip", "clip_vision_model", "vit_msn"}
"""Model types with one attention per hidden layer and no other."""
STAGED = {"swin", "swinv2"}
"""Model types with `depths[i]` attentions in stage i."""
PROBE_BATCH = 2


def load_images(found: Directory, task: Task, options: SourceOptions) -> FloatModel:
    """The image model in a directory that `save_pretrained` wrote, as float32, in evaluation mode.

    Input `pixel_values` float32 (batch, channels, height, width). Output for image-classification: `logits` (batch,
    classes), with the labels of `id2label`; for image-features: `features`, the model's projected or pooled output, or
    its class token. Raises CheckpointError for what is missing, damaged or does not fit, InputError for preprocessing
    that cannot be told.
    """
    directory = found.path
    preprocess = _preprocess(directory, options)
    kind = _class_for(found, task)
    model, notes = load_model(Loading(found=found, task=task, kind=kind, optional=("pooler.",)))
    module, more = _as_image_model(model, task, preprocess, directory)
    if task == "image-features" and found.config["model_type"] in TEXT_TOWERS:
        more.append("this is its image tower; give --task text-features for its text tower")
    signature = _signature(module, task, preprocess)
    return FloatModel(
        name=directory.absolute().name,
        module=module.requires_grad_(False),
        signature=signature,
        task=task,
        preprocess=preprocess,
        labels=_labels(found, signature, task, options),
        trained=True,
        depth=_depth(model),
        digest=module_digest(module, architecture(found, task, {"size": preprocess.size})),
        notes=(*notes, *more),
    )


def _preprocess(directory: Path, options: SourceOptions) -> ImagePreprocess:
    preprocess = options.preprocess or _stored_preprocess(directory)
    if options.image_size is None:
        return preprocess
    return msgspec.structs.replace(preprocess, size=options.image_size)


def _stored_preprocess(directory: Path) -> ImagePreprocess:
    if (directory / FILE).exists():
        return read_preprocess(directory / FILE)
    joint = directory / "processor_config.json"
    if joint.exists():
        try:
            config = json.loads(joint.read_bytes())
        except ValueError as error:
            raise InputError(f"expected JSON at {joint}, found: {error}; {GIVE_ONE}") from error
        if isinstance(config, dict) and isinstance(config.get("image_processor"), dict):
            return preprocess_from_config(config["image_processor"], joint)
    raise InputError(f"expected preprocessing in {directory}, found no {FILE}; {GIVE_ONE}")


def _class_for(found: Directory, task: Task) -> Any:
    import transformers

    if task == "image-classification":
        return transformers.AutoModelForImageClassification
    tower = TOWERS.get(found.config["model_type"])
    if tower is not None:
        return getattr(transformers, tower)
    names = found.config.get("architectures") or []
    named = getattr(transformers, str(names[0]), None) if names and "For" not in str(names[0]) else None
    if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel):
        return named
    return transformers.AutoModel


def _as_image_model(
    model: nn.Module, task: Task, preprocess: ImagePreprocess, directory: Path
) -> tuple[nn.Module, list[str]]:
    """One tensor in, one out; what does not depend on the image is computed once."""
    import torch

    from edgevit.sources.huggingface.image_modules import (
        ImageModel,
        choose_output,
        freeze_positions,
        takes_interpolation,
    )

    pixels = torch.randn(
        PROBE_BATCH, len(preprocess.mode), *preprocess.size, generator=torch.Generator().manual_seed(0)
    )
    interpolate = takes_interpolation(model) and preprocess.size != _own_size(model)
    try:
        with torch.no_grad(), quiet_torch():
            arguments = {"interpolate_pos_encoding": True} if interpolate else {}
            outputs = model(pixel_values=pixels, return_dict=True, **arguments)
            output = choose_output(model, outputs, classifies=task == "image-classification")
            if output is None:
                raise InputError(
                    f"expected {task} from {type(model).__name__} at {directory}, found the outputs "
                    f"{', '.join(outputs)}; give another --task"
                )
            module = ImageModel(model, output, interpolate=interpolate).eval()
            frozen = freeze_positions(module, pixels)
            folded = fold_batch_norms(module, pixels)
    except InputError:
        raise
    except Exception as error:  # The model's code may raise anything on a size it was not made for.
        height, width = preprocess.size
        raise InputError(
            f"expected {type(model).__name__} at {directory} to take {len(preprocess.mode)} x {height} x {width} "
            f"images as its preprocessing makes them, found {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; correct the preprocessing, or give --image-size"
        ) from error
    notes = [] if output == "logits" else [f"features are {output} of {type(model).__name__}"]
    if frozen:
        notes.append("interpolated the position embeddings to {}x{} pixels".format(*preprocess.size))
    if folded:
        notes.append(f"folded {folded} batch norms into their convolutions")
    return module, notes


def _own_size(model: Any) -> tuple[int, int] | None:
    size = getattr(_vision_config(model.config), "image_size", None)
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, list | tuple) and len(size) == 2 else None


def _vision_config(config: Any) -> Any:
    return getattr(config, "vision_config", None) or config


def _signature(module: nn.Module, task: Task, preprocess: ImagePreprocess) -> Signature:
    import torch

    shape = (len(preprocess.mode), *preprocess.size)
    with torch.no_grad(), quiet_torch():
        out: Tensor = module(torch.zeros(PROBE_BATCH, *shape))
    name = "logits" if task == "image-classification" else "features"
    return Signature(
        inputs=(TensorSpec(name=preprocess.input, dtype="float32", shape=("batch", *shape)),),
        outputs=(TensorSpec(name=name, dtype="float32", shape=("batch", *out.shape[1:])),),
    )


def _labels(found: Directory, signature: Signature, task: Task, options: SourceOptions) -> tuple[str, ...]:
    if task != "image-classification":
        return ()
    classes = signature.outputs[0].shape[1]
    assert isinstance(classes, int)
    return named_labels(found, classes, options)


def _depth(model: Any) -> int | None:
    config = _vision_config(model.config)
    kind = getattr(model.config, "model_type", "")
    if kind in PLAIN:
        return int(config.num_hidden_layers)
    return int(sum(config.depths)) if kind in STAGED else None
