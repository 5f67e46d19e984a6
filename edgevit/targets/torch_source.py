"""The float model that a target begins with, for those whose compilers start from torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import BuildError, InputError
from edgevit.types import TextPreprocess

if TYPE_CHECKING:
    from edgevit.targets.base import BuildSource
    from edgevit.types import FloatModel


def image_module(source: BuildSource, target: str, otherwise: str = "") -> FloatModel:
    """`torch_module` of a model of images. Raises InputError for one that takes text, too."""
    model = torch_module(source, target, otherwise)
    if model.parts or isinstance(model.preprocess, TextPreprocess):
        raise InputError(
            f"expected a model of images for {target}, found {model.name}, which takes text; build onnxruntime"
        )
    return model


def torch_module(source: BuildSource, target: str, otherwise: str = "") -> FloatModel:
    """Loads it again, with its module. `otherwise` ends the advice on a model that has none.

    Raises BuildError where there is no way to it, InputError for one that came as ONNX.
    """
    if source.float_model is None:
        raise BuildError(f"expected a way to the float model for {target}, found none; export from the checkpoint")
    model = source.float_model()
    if model.module is None:
        raise InputError(
            f"expected a PyTorch model for {target}, found {model.name}, which came as ONNX; hand in the checkpoint it "
            f"was exported from{otherwise}"
        )
    return model
