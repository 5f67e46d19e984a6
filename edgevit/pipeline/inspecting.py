"""What a path holds, for people: a bundle, a plan or an ONNX model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgevit.bundle import MANIFEST, Manifest, open_bundle
from edgevit.errors import InputError
from edgevit.types import QuantPlan, Signature, Value


class OnnxSummary(Value, frozen=True, kw_only=True):
    path: str
    opset: int
    signature: Signature
    operators: dict[str, int]
    attention_blocks: int
    layers: dict[str, tuple[int, int]]
    """Quantizable layer to (output, input) channels."""
    weights_bytes: int


def inspect(path: str | Path) -> Manifest | QuantPlan | OnnxSummary:
    """The manifest of a bundle, the plan in a `.toml`, or a summary of an `.onnx`. Raises InputError for others."""
    place = Path(path)
    if place.is_dir():
        return open_bundle(place, check="manifest").manifest
    if place.name == MANIFEST:
        return open_bundle(place.parent, check="manifest").manifest
    if not place.exists():
        raise InputError(f"expected a bundle, a plan.toml or an .onnx file, found nothing at {place}")
    if place.suffix == ".toml":
        from edgevit.quantize.plan_file import read_plan

        return read_plan(place)
    if place.suffix == ".onnx":
        return _onnx(place)
    raise InputError(f"expected a bundle, a plan.toml or an .onnx file, found {place}")


def _onnx(path: Path) -> OnnxSummary:
    from edgevit.graph import storage
    from edgevit.graph.attention import count_attention
    from edgevit.graph.layers import quantizable_layers

    model = storage.load(path)
    described = storage.describe(model, path)
    weights = [value.const_value for value in model.graph.initializers.values()]
    return OnnxSummary(
        path=str(path),
        opset=described.opset,
        signature=described.signature,
        operators=dict(Counter(node.op_type for node in model.graph).most_common()),
        attention_blocks=count_attention(model),
        layers={layer.name: (layer.out_channels, layer.in_channels) for layer in quantizable_layers(model)},
        weights_bytes=sum(tensor.nbytes for tensor in weights if tensor is not None),
    )
