"""What loading a Hugging Face directory shares between images and texts: weights, labels, facts for the digest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import msgspec

from edgevit.errors import CheckpointError
from edgevit.graph.quiet import quiet_torch
from edgevit.sources.vit import choose_labels

if TYPE_CHECKING:
    from torch import nn

    from edgevit.sources.huggingface.directory import Directory
    from edgevit.sources.options import SourceOptions
    from edgevit.types import Task

NAMED = 5
FLOAT32 = "F32"


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """How a directory becomes a model of transformers."""

    found: Directory
    task: Task
    kind: Any
    """The class, or the Auto class, to load it with."""
    optional: tuple[str, ...] = ()
    """Beginnings of the names of parameters that the checkpoint may lack: a pooler that nothing was trained for."""


def load_model(loading: Loading) -> tuple[nn.Module, list[str]]:
    """The model with every parameter from the checkpoint, float32, and notes of what was left out.

    Raises CheckpointError for parameters that are missing, of another shape, or not finite.
    """
    with quiet_torch():
        model, info = _from_pretrained(loading, pooled=True)
        missing = sorted(info["missing_keys"])
        notes = []
        if missing and all(name.startswith(loading.optional) for name in missing):
            # Published without one (DINO, MAE): transformers would put a random pooler on top.
            model, info = _from_pretrained(loading, pooled=False)
            missing = sorted(info["missing_keys"])
            notes.append("the checkpoint has no pooler")
    unlike = [f"{name} {tuple(theirs)} for {tuple(ours)}" for name, theirs, ours in info["mismatched_keys"]]
    found = loading.found
    if missing or unlike:
        parts = [listing("missing", missing), listing("of another shape", sorted(unlike))]
        raise CheckpointError(
            f"expected every parameter of {type(model).__name__} in {found.path}, found "
            f"{', '.join(filter(None, parts))}; copy the whole checkpoint, or give the --task it was trained for"
        )
    left = sorted(info["unexpected_keys"])
    if left:
        notes.append(f"left {listing('parameters that the task does not use', left)}")
    others = [dtype for dtype in found.dtypes if dtype != FLOAT32 and "F" in dtype]
    if others:
        notes.append(f"turned {', '.join(others)} parameters to float32")
    _check_finite(model, found)
    return model.eval(), notes


def _from_pretrained(loading: Loading, *, pooled: bool) -> tuple[nn.Module, dict[str, Any]]:
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
    path = str(loading.found.path)
    try:
        try:
            return cast(
                "tuple[nn.Module, dict[str, Any]]",
                loading.kind.from_pretrained(path, attn_implementation="sdpa", **settings),
            )
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
        return cast(
            "tuple[nn.Module, dict[str, Any]]",
            loading.kind.from_pretrained(path, attn_implementation="eager", **settings),
        )
    except Exception as error:  # transformers raises whatever its parts do for a broken or foreign checkpoint
        reason = " ".join(str(error).split())[:240] or type(error).__name__
        raise CheckpointError(
            f"expected a checkpoint for {loading.task} that transformers loads at {path}, found "
            f"{type(error).__name__}: {reason}; check the files, the --task, and that transformers is new enough for "
            "the model"
        ) from error


def named_labels(found: Directory, classes: int, options: SourceOptions) -> tuple[str, ...]:
    """The given labels, or those of `id2label`, one per class in the order of the outputs."""
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


def architecture(found: Directory, task: Task, facts: dict[str, Any]) -> bytes:
    """What the digest of a model takes in besides its parameters."""
    import transformers

    every = {"config": found.config, "task": task, **facts, "transformers": transformers.__version__}
    return json.dumps(every, sort_keys=True).encode()


def _check_finite(model: nn.Module, found: Directory) -> None:
    import torch

    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"expected finite weights, found NaN or infinity in {listing('parameters', bad)}, at {found.path}; "
            "the training that wrote it diverged or the file is damaged: hand in another checkpoint"
        )


def listing(what: str, names: list[str]) -> str:
    """`3 missing (a, b, c)`, empty for none."""
    if not names:
        return ""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"
