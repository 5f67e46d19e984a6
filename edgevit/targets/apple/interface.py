"""What goes into a Core ML package and comes out of it: names, types and sizes, as asked for and as found.

Core ML counts in int32 and has no dots in names: `present.0.encoder.key` is `present_0_encoder_key` there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.types import ImagePreprocess, Signature

if TYPE_CHECKING:
    from edgevit.types import TensorSpec

MODES = {"RGB": "RGB", "BGR": "BGR", "L": "GRAYSCALE"}
LABEL = "label"
PROBABILITIES = "label_probs"
"""What coremltools calls them, whatever it is asked for."""
TYPES = {"float32": "FLOAT32", "int64": "INT32", "int32": "INT32"}


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    batch: int
    pixels: ImagePreprocess | None = None
    """Take an image of 8-bit pixels and normalize it inside; None: an array of prepared numbers."""
    labels: tuple[str, ...] = ()
    """Give the best label and the probability of each; empty: the model's own outputs."""
    lengths: dict[str, int] = {}
    """The largest size of each dynamic dimension; the least is 1."""


def core_ml_name(name: str) -> str:
    return re.sub(r"\W", "_", name)


def input_types(ct: Any, signature: Signature, interface: Interface) -> list[Any]:
    """coremltools' description of every input; one length is one range wherever it occurs."""
    ranges = {name: ct.RangeDim(1, most, default=min(8, most), symbol=name) for name, most in interface.lengths.items()}

    def described(spec: TensorSpec) -> Any:
        sizes = [_size(dim, at, interface) for at, dim in enumerate(spec.shape)]
        shape = tuple(ranges[size] if isinstance(size, str) else size for size in sizes)
        if interface.pixels is not None:
            layout = getattr(ct.colorlayout, MODES[interface.pixels.mode])
            return ct.ImageType(name=spec.name, shape=shape, color_layout=layout)
        return ct.TensorType(name=spec.name, shape=shape, dtype=np.float32 if spec.dtype == "float32" else np.int32)

    return [described(spec) for spec in signature.inputs]


def output_types(ct: Any, signature: Signature, interface: Interface) -> dict[str, Any]:
    """Arguments of `ct.convert` for what comes out."""
    if interface.labels:
        classes = ct.ClassifierConfig(list(interface.labels), predicted_feature_name=LABEL)
        return {"outputs": None, "classifier_config": classes}
    return {"outputs": [ct.TensorType(name=one.name, dtype=np.float32) for one in signature.outputs]}


def expected_interface(signature: Signature, interface: Interface) -> list[Any]:
    """(name, type, sizes) of every input and output, as `found_interface` gives them."""
    inputs = [(core_ml_name(one.name), TYPES[one.dtype], _sizes(one, interface)) for one in signature.inputs]
    if interface.pixels is not None:
        inputs[0] = (inputs[0][0], "image", interface.pixels.size)
    if interface.labels:
        return [*inputs, (LABEL, "string", ()), (PROBABILITIES, "dictionary", ())]
    free = {one.name: any(isinstance(size, str) for size in one.shape[1:]) for one in signature.outputs}
    # Sizes of an output that depends on a length are not written down.
    return inputs + [
        (core_ml_name(one.name), TYPES[one.dtype], () if free[one.name] else _sizes(one, interface))
        for one in signature.outputs
    ]


def found_interface(spec: Any) -> list[Any]:
    return [_described(one) for one in (*spec.description.input, *spec.description.output)]


def _described(feature: Any) -> tuple[str, str, tuple[Any, ...]]:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return feature.name, "image", (feature.type.imageType.height, feature.type.imageType.width)
    if kind != "multiArrayType":
        return feature.name, kind.removesuffix("Type"), ()
    array = feature.type.multiArrayType
    name = type(array).ArrayDataType.Name(array.dataType)
    ranges = [(one.lowerBound, one.upperBound) for one in array.shapeRange.sizeRanges]
    sizes = [low if low == high else (low, high) for low, high in ranges] if ranges else array.shape
    return feature.name, name, tuple(sizes)


def _sizes(spec: TensorSpec, interface: Interface) -> tuple[Any, ...]:
    sizes = [_size(dim, at, interface) for at, dim in enumerate(spec.shape)]
    return tuple(size if isinstance(size, int) else (1, interface.lengths[size]) for size in sizes)


def _size(dim: int | str, axis: int, interface: Interface) -> int | str:
    return interface.batch if axis == 0 else dim
