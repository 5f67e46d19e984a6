"""Where a float model comes from. Importing this needs no torch; loading a model does."""

from __future__ import annotations

from pathlib import Path

from edgevit.errors import InputError
from edgevit.sources.checkpoint import Checkpoint, fit_state_dict, load_state_dict
from edgevit.sources.factory import load_factory
from edgevit.sources.huggingface import load_huggingface
from edgevit.sources.onnx_file import load_onnx
from edgevit.sources.options import SourceOptions
from edgevit.sources.pt2 import load_pt2
from edgevit.sources.timm import load_timm
from edgevit.sources.zoo import load_zoo
from edgevit.types import FloatModel

__all__ = [
    "Checkpoint",
    "SourceOptions",
    "fit_state_dict",
    "load_factory",
    "load_huggingface",
    "load_onnx",
    "load_pt2",
    "load_state_dict",
    "load_timm",
    "load_zoo",
    "open_source",
]

FORMS = (
    "zoo:NAME, a directory in Hugging Face layout, timm:ARCH with --weights FILE, a .pt2 or .onnx file, or "
    "package.module:factory with or without --weights FILE"
)


def open_source(model: str, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The float32 model that MODEL of the command line names, in evaluation mode.

    Raises InputError for a name that is none of the accepted forms, and what the `load_…` of its form raises.
    """
    kind, colon, name = model.partition(":")
    if colon and kind == "zoo":
        return load_zoo(name, weights, options)
    if colon and kind == "timm":
        return load_timm(name, weights, options)
    if colon and name.isidentifier() and all(part.isidentifier() for part in kind.split(".")):
        return load_factory(model, weights, options)
    if model and Path(model).is_dir():
        return load_huggingface(Path(model), weights, options)
    if model.endswith(".onnx"):
        return load_onnx(Path(model), weights, options)
    if model.endswith(".pt2"):
        return load_pt2(Path(model), weights, options)
    hint = "; a checkpoint file goes to --weights" if Path(model).exists() else ""
    raise InputError(f"expected a model as {FORMS}, found '{model}'{hint}")
