"""The float model that a target begins with, for those whose compilers start from torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import BuildError, InputError
from edgevit.types import TextPreprocess

if TYPE_CHECKING:
    from edgevit.targets.base import BuildSource
    from edgevit.types import FloatModel, Signature

PAST = "past_length"
"""The dimension of a decoder's cache that grows by what was read."""


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


def longest_lengths(model: FloatModel, target: str) -> dict[str, int]:
    """The largest size of every dynamic dimension behind the batch, for programs that have to know it.

    Raises InputError for a dimension that is no length of the model's texts, read or written.
    """
    most = {}
    if isinstance(model.preprocess, TextPreprocess):
        most["source_length"] = model.preprocess.max_length
    if model.generation is not None:
        written = model.generation.max_length
        most |= {"target_length": written, PAST: max(1, written - 1)}
    names = {dim: spec for spec in model.signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)}
    for length, spec in names.items():
        if length not in most:
            raise InputError(
                f"expected sizes or lengths of texts for {target}, found {length} at {spec.name} {spec.shape}: its "
                "programs say the largest; fix it in the model, or build onnxruntime"
            )
    return {length: most[length] for length in names}


def has_past(signature: Signature) -> bool:
    """A decoder with a cache."""
    return any(PAST in spec.shape for spec in signature.inputs)


def check_no_recurrence(model: FloatModel, target: str, why: str) -> None:
    """Raises InputError for a model with a recurrent layer, which `target` has no operator for that would be right."""
    from torch import nn

    for name, module in model.module.named_modules():
        if isinstance(module, nn.RNNBase):
            raise InputError(
                f"expected no recurrent layer for {target}, found {type(module).__name__} at {name}: {why}; build "
                "onnxruntime or ort-mobile"
            )
