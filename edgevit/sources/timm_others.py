"""`timm:ARCH` for architectures that only timm itself has, where timm imports (it needs torchvision)."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.batch_norm import fold_batch_norms
from edgevit.sources.checkpoint import fit_state_dict, load_state_dict
from edgevit.sources.digest import module_digest
from edgevit.sources.requirements import require
from edgevit.sources.vit import choose_labels
from edgevit.types import FloatModel, ImagePreprocess, Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from edgevit.sources.checkpoint import Checkpoint
    from edgevit.sources.options import SourceOptions

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
PROBE_BATCH = 2


def load_other(name: str, weights: Path | None, options: SourceOptions, own: tuple[str, ...]) -> FloatModel:
    """timm's own model with the parameters in `weights`, float32, in evaluation mode, with timm's preprocessing for it.

    `own`: the names that need no timm, for errors. Raises InputError where timm does not import or does not know the
    name, for a missing file, and for preprocessing that cannot be followed exactly; CheckpointError for weights that
    do not fit.
    """
    timm = _timm(name, own)
    if name not in timm.list_models():
        near = difflib.get_close_matches(name, timm.list_models(), 5) or list(own)
        raise InputError(f"expected an architecture of timm, found '{name}'; choose one of: {', '.join(near)}")
    if weights is None:
        raise InputError(
            f"expected the weights of timm:{name}, found none; add --weights FILE (edgevit downloads nothing)"
        )
    require("torch", f"loading timm:{name}")
    checkpoint = load_state_dict(weights)
    module = _made(timm, name, checkpoint, options)
    fit_state_dict(module, checkpoint, weights)
    preprocess = options.preprocess or _preprocess(timm, module, name, options)
    module = module.float().eval()
    classes, folded = _probed(module, name, preprocess)
    notes = [f"folded {folded} batch norms into their convolutions"] if folded else []
    shape = (len(preprocess.mode), *preprocess.size)
    return FloatModel(
        name=name,
        module=module.requires_grad_(False),
        signature=Signature(
            inputs=(TensorSpec(name=preprocess.input, dtype="float32", shape=("batch", *shape)),),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", classes)),),
        ),
        task="image-classification",
        preprocess=preprocess,
        labels=choose_labels(options.labels, classes, given=bool(options.labels)),
        trained=True,
        digest=module_digest(module, f"timm {timm.__version__} {name} {preprocess.size}".encode()),
        notes=(f"timm {timm.__version__}'s own code", *checkpoint.notes, *notes),
    )


def _timm(name: str, own: tuple[str, ...]) -> Any:
    try:
        return importlib.import_module("timm")
    except Exception as error:  # torchvision raises a RuntimeError where it does not match torch
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"expected an architecture of timm, found '{name}'; choose one of: {', '.join(own)}; others need timm "
            f"itself, which does not import here ({type(error).__name__}: {reason})"
        ) from error


def _made(timm: Any, name: str, checkpoint: Checkpoint, options: SourceOptions) -> Any:
    """The architecture with as many classes as the checkpoint's head has, made for the size that was asked for."""
    settings: dict[str, Any] = {"pretrained": False}
    if options.image_size is not None:
        settings["img_size"] = options.image_size
    try:
        with quiet_torch():
            module = timm.create_model(name, **settings)
            classes = _classes(module, checkpoint)
            return timm.create_model(name, **settings, num_classes=classes) if classes is not None else module
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"expected timm:{name} to be made for {settings}, found {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; leave --image-size out, or choose another"
        ) from error


def _classes(module: Any, checkpoint: Checkpoint) -> int | None:
    head = module.pretrained_cfg.get("classifier")
    head = head[0] if isinstance(head, tuple | list) else head
    weight: Tensor | None = checkpoint.state.get(f"{head}.weight")
    return None if weight is None else int(weight.shape[0])


def _preprocess(timm: Any, module: Any, name: str, options: SourceOptions) -> ImagePreprocess:
    """What timm evaluates this architecture with, which is never guessed."""
    found = timm.data.resolve_model_data_config(module)
    channels, *size = found["input_size"]
    crop = found.get("crop_mode") or "center"
    if channels != 3 or found["interpolation"] not in INTERPOLATIONS or crop not in ("center", "squash"):
        raise InputError(
            f"expected preprocessing that can be followed exactly for timm:{name}, found {channels} channels, "
            f"interpolation {found['interpolation']}, crop_mode {crop}; give --preprocess FILE"
        )
    height, width = options.image_size or size
    return ImagePreprocess(
        size=(height, width),
        resize="exact" if crop == "squash" else "shortest",
        crop_fraction=float(found["crop_pct"]),
        interpolation=found["interpolation"],
        mean=tuple(map(float, found["mean"])),
        std=tuple(map(float, found["std"])),
    )


def _probed(module: Any, name: str, preprocess: ImagePreprocess) -> tuple[int, int]:
    """How many classes come out, and how many batch norms were folded."""
    import torch

    shape = (len(preprocess.mode), *preprocess.size)
    pixels = torch.randn(PROBE_BATCH, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), quiet_torch():
            out = module(pixels)
    except Exception as error:  # the model's own code may raise anything on a size it was not made for
        raise InputError(
            f"expected timm:{name} to take images of {shape}, found {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; give --image-size or another preprocessing"
        ) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise InputError(
            f"expected class scores (batch, classes) of timm:{name}, found {found}; write a factory "
            "(package.module:factory)"
        )
    return int(out.shape[1]), fold_batch_norms(module, pixels)
