"""A model that Python code of the user's makes: `package.module:factory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.files.python import current_directory_first, find_function
from edgevit.sources.checkpoint import fit_state_dict, load_state_dict
from edgevit.sources.digest import module_digest
from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require
from edgevit.sources.vit import choose_labels
from edgevit.types import FloatModel, ImagePreprocess, Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

PROBE_BATCH = 2
"""Images in the call that finds the output's shape; 2, so that a batch of 1 taken for granted shows."""


def load_factory(spec: str, weights: Path | None, options: SourceOptions | None = None) -> FloatModel:
    """Imports `package.module`, calls `factory()` and takes the `nn.Module` it returns, as float32, for evaluation.

    The current directory is searched first, as `python` does it. With `weights` the module's parameters come from
    that checkpoint. The module takes one image tensor as `options.preprocess` describes it, float32
    (batch, channels, height, width), and returns class scores (batch, classes). Raises InputError when any of that
    does not hold, CheckpointError for weights that do not fit, UnavailableError without torch.
    """
    require("torch", f"loading {spec}")
    options = options or SourceOptions()
    if options.preprocess is None:
        raise InputError(
            f"expected preprocessing for {spec}, found none: nothing else tells its input; add a [preprocess] table "
            "(size, mean, std) to the recipe"
        )
    checkpoint = load_state_dict(weights) if weights is not None else None
    module = _make(spec).float()
    if weights is not None and checkpoint is not None:
        fit_state_dict(module, checkpoint, weights)
    module = module.eval().requires_grad_(False)
    signature = _probe(spec, module, options.preprocess)
    classes = signature.outputs[0].shape[1]
    assert isinstance(classes, int)
    return FloatModel(
        name=spec,
        module=module,
        signature=signature,
        task="image-classification",
        preprocess=options.preprocess,
        labels=choose_labels(options.labels, classes, given=bool(options.labels)),
        trained=True,
        digest=module_digest(module, f"{spec}\n{module}".encode()),
        notes=checkpoint.notes if checkpoint is not None else (),
    )


def _make(spec: str) -> nn.Module:
    from torch import nn

    try:
        with current_directory_first():
            made = find_function(spec)()
    except InputError:
        raise
    except Exception as error:  # The user's code may raise anything; the error keeps it as its cause.
        raise InputError(
            f"expected {spec} to return a torch.nn.Module, found that it raised {_short(error)}; correct it"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"expected {spec} to return a torch.nn.Module, found {type(made).__name__}; correct its return value"
        )
    return made


def _probe(spec: str, module: nn.Module, preprocess: ImagePreprocess) -> Signature:
    """The signature, from one call on zeros."""
    import torch

    shape = (len(preprocess.mode), *preprocess.size)
    try:
        with torch.inference_mode():
            out = module(torch.zeros(PROBE_BATCH, *shape))
    except Exception as error:  # As above: the module is the user's code.
        raise InputError(
            f"expected the module of {spec} to take a batch of {shape} images, found that it raised {_short(error)}; "
            "correct the module or the preprocessing"
        ) from error
    found = f"shape {tuple(out.shape)}, {out.dtype}" if isinstance(out, torch.Tensor) else type(out).__name__
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != PROBE_BATCH or out.dtype != torch.float32:
        raise InputError(
            f"expected the module of {spec} to return float32 class scores (batch, classes) for a batch of "
            f"{PROBE_BATCH}, found {found}; wrap it in a module that does"
        )
    return Signature(
        inputs=(TensorSpec(name=preprocess.input, dtype="float32", shape=("batch", *shape)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", out.shape[1])),),
    )


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
