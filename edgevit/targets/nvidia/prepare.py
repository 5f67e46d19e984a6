"""The graph as TensorRT gets it: decomposed attention, whole projections, half precision around float32 norms.

The order matters: the plan is written as Q/DQ on the float32 graph first, what stays float is converted after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from edgevit.errors import BuildError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from edgevit.targets.base import BuildSource
    from edgevit.types import Precision

    Floats = Literal["float32", "float16", "bfloat16"]

FLOATS: dict[str, tuple[str, ...]] = {
    "float32": ("float32",),
    "float16": ("float16",),
    "bfloat16": ("bfloat16",),
    "int8": ("float16", "float32", "bfloat16"),
}
"""What the layers that are not int8 may compute in, by precision; the first is the default."""


def choose_floats(precision: Precision, wanted: str | None) -> Floats:
    """What the float layers of a build compute in. Raises InputError with the choices."""
    choices = FLOATS[precision]
    if wanted is not None and wanted not in choices:
        raise InputError(f"expected float_layers={'|'.join(choices)} for {precision}, found {wanted!r}")
    return cast("Floats", wanted or choices[0])


def prepare(source: BuildSource, precision: Precision, floats: Floats, path: Path) -> tuple[tuple[str, str], ...]:
    """Writes the ONNX file for the parser; returns (node, wanted precision) of every linear layer and convolution.

    Raises PlanError for a Q/DQ graph that TensorRT would misread, BuildError for int8 without a quantized graph.
    """
    from edgevit.graph import storage
    from edgevit.graph.passes.attention_decomposed import attention_decomposed, undecomposed
    from edgevit.graph.passes.half_precision import to_half_precision
    from edgevit.graph.passes.projection_split import projection_split
    from edgevit.targets.nvidia.lint import check_readable

    model = source.quantized if precision == "int8" else source.onnx
    if model is None:
        raise BuildError("expected a quantized graph for an int8 build, found none; calibrate first")
    graph = storage.load(model.path)
    check_readable(graph, model.path.name)
    left = undecomposed(graph)
    if left:
        raise BuildError(
            f"expected attention without mask, cache or unequal heads for TensorRT, found {left[0]}; export the model "
            "with openvino or onnxruntime, or without the mask"
        )
    layers = wanted_precisions(graph, floats)
    projection_split(graph)
    attention_decomposed(graph)
    if floats != "float32":
        to_half_precision(graph, floats)
    storage.save(graph, path, storage.ONE_FILE_LIMIT)  # the file stays in the bundle
    return layers


def wanted_precisions(model: ir.Model, floats: str) -> tuple[tuple[str, str], ...]:
    """(node, precision asked for) of every MatMul and Conv with a constant weight, in graph order."""
    found = []
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("MatMul", "Conv") and len(node.inputs) > 1 else None
        if weight is None:
            continue
        producer = weight.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            found.append((str(node.name), "int8"))
        elif weight.is_initializer():
            found.append((str(node.name), floats))
    return tuple(found)
