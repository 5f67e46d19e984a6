"""A directory in Hugging Face layout: config.json, weights, preprocessor_config.json. Nothing is fetched or run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from edgevit.errors import CheckpointError, InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.batch_norm import fold_batch_norms
from edgevit.sources.digest import module_digest
from edgevit.sources.huggingface_files import Directory, look_into
from edgevit.sources.options import SourceOptions
from edgevit.sources.preprocessing import FILE, GIVE_ONE, preprocess_from_config, read_preprocess
from edgevit.sources.requirements import require
from edgevit.sources.vit import choose_labels
from edgevit.types import FloatModel, ImagePreprocess, Signature, Task, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

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
NAMED = 5
FLOAT32 = "F32"


def load_huggingface(directory: Path, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The image model in a directory that `save_pretrained` wrote, as float32, in evaluation mode.

    Input `pixel_values` float32 (batch, channels, height, width). Output for image-classification: `logits` (batch,
    classes), with the labels of `id2label`; for image-features: `features`, the model's projected or pooled output, or
    its class token. The task is read off the architecture unless `options.task` gives it. Raises CheckpointError for
    what is missing, damaged, unsafe or does not fit, InputError for a task or preprocessing that cannot be told,
    UnavailableError without torch and transformers.
    """
    require("torch", f"loading {directory}")
    require("transformers", f"loading {directory}, a Hugging Face directory,", "huggingface")
    options = options or SourceOptions()
    if weights is not None:
        raise InputError(f"expected the weights inside {directory}, found --weights {weights} as well; leave one out")
    found = look_into(directory)
    task = options.task or infer_task(found)
    preprocess = _preprocess(directory, options)
    with quiet_torch():
        model, notes = _load(found, task)
    _check_finite(model, directory)
    module, more = _as_image_model(model, task, preprocess, directory)
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
        digest=module_digest(module, _architecture(found, task, preprocess)),
        notes=(*notes, *more),
    )


def infer_task(found: Directory) -> Task:
    """The task of the first architecture that config.json names."""
    names = found.config.get("architectures") or []
    name = str(names[0]) if names else ""
    if "ForImageClassification" in name:
        return "image-classification"
    if name and "For" not in name:
        return "image-features"
    raise InputError(
        f"expected an architecture for image classification or image features in {found.path / 'config.json'}, found "
        f"{name or 'none'}; give --task image-classification or --task image-features if the checkpoint can do it"
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


def _load(found: Directory, task: Task) -> tuple[nn.Module, list[str]]:
    """The model with every parameter from the checkpoint, and what was left out."""
    model, info = _from_pretrained(found, task, pooled=True)
    missing = sorted(info["missing_keys"])
    notes = []
    if missing and all(name.startswith("pooler.") for name in missing):
        # Published without one (DINO, MAE): transformers would put a random pooler on top.
        model, info = _from_pretrained(found, task, pooled=False)
        missing = sorted(info["missing_keys"])
        notes.append("the checkpoint has no pooler")
    unlike = [f"{name} {tuple(theirs)} for {tuple(ours)}" for name, theirs, ours in info["mismatched_keys"]]
    if missing or unlike:
        parts = [_listing("missing", missing), _listing("of another shape", sorted(unlike))]
        raise CheckpointError(
            f"expected every parameter of {type(model).__name__} in {found.path}, found "
            f"{', '.join(filter(None, parts))}; copy the whole checkpoint, or give the --task it was trained for"
        )
    left = sorted(info["unexpected_keys"])
    if left:
        notes.append(f"left {_listing('parameters that the task does not use', left)}")
    others = [dtype for dtype in found.dtypes if dtype != FLOAT32 and "F" in dtype]
    if others:
        notes.append(f"turned {', '.join(others)} parameters to float32")
    return model, notes


def _from_pretrained(found: Directory, task: Task, *, pooled: bool) -> tuple[nn.Module, dict[str, Any]]:
    import torch

    settings: dict[str, Any] = {
        "local_files_only": True,  # a name inside config.json must not lead to the network
        "trust_remote_code": False,
        "weights_only": True,
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # reported, and refused above with the names
    }
    if not pooled:
        settings["add_pooling_layer"] = False
    try:
        kind = _class_for(found, task)
        try:
            return cast(
                "tuple[nn.Module, dict[str, Any]]",
                kind.from_pretrained(str(found.path), attn_implementation="sdpa", **settings),
            )
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
        return cast(
            "tuple[nn.Module, dict[str, Any]]",
            kind.from_pretrained(str(found.path), attn_implementation="eager", **settings),
        )
    except Exception as error:  # transformers raises whatever its parts do for a broken or foreign checkpoint
        reason = " ".join(str(error).split())[:240] or type(error).__name__
        raise CheckpointError(
            f"expected a checkpoint for {task} that transformers loads at {found.path}, found {type(error).__name__}: "
            f"{reason}; check the files, the --task, and that transformers is new enough for the model"
        ) from error


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

    from edgevit.sources.huggingface_modules import ImageModel, choose_output, freeze_positions, takes_interpolation

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
    if options.labels:
        return choose_labels(options.labels, classes, given=True)
    names = found.config.get("id2label")
    if names is None:
        return choose_labels((), classes, given=False)
    if not isinstance(names, dict) or {str(key) for key in names} != set(map(str, range(classes))):
        count = len(names) if isinstance(names, dict) else 0
        raise CheckpointError(
            f"expected id2label of {found.path / 'config.json'} to name the classes 0 to {classes - 1}, found {count} "
            "other entries; correct it"
        )
    return tuple(str(names[str(index)]) for index in range(classes))


def _depth(model: Any) -> int | None:
    config = _vision_config(model.config)
    kind = getattr(model.config, "model_type", "")
    if kind in PLAIN:
        return int(config.num_hidden_layers)
    return int(sum(config.depths)) if kind in STAGED else None


def _check_finite(model: nn.Module, directory: Path) -> None:
    import torch

    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"expected finite weights, found NaN or infinity in {_listing('parameters', bad)}, at {directory}; "
            "the training that wrote it diverged or the file is damaged: hand in another checkpoint"
        )


def _architecture(found: Directory, task: Task, preprocess: ImagePreprocess) -> bytes:
    import transformers

    facts = {"config": found.config, "task": task, "size": preprocess.size, "transformers": transformers.__version__}
    return json.dumps(facts, sort_keys=True).encode()


def _listing(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"
