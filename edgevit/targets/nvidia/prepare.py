"""The graph as TensorRT gets it: the plan's Q/DQ, decomposed attention, half precision around float32 norms.

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
    "float8": ("float16", "bfloat16"),
    "int8": ("float16", "float32", "bfloat16"),
    "int4w": ("float16", "bfloat16"),
}
"""What the layers that are not quantized may compute in, by precision; the first is the default."""
CODES = {"INT8": "int8", "FLOAT8E4M3FN": "float8", "INT4": "int4w"}
"""Type of a weight's codes to the precision that its layer is asked for in."""
RECURRENT = ("LSTM", "GRU", "RNN")


def choose_floats(precision: Precision, wanted: str | None) -> Floats:
    """What the float layers of a build compute in. Raises InputError with the choices."""
    choices = FLOATS[precision]
    if wanted is not None and wanted not in choices:
        raise InputError(f"expected float_layers={'|'.join(choices)} for {precision}, found {wanted!r}")
    return cast("Floats", wanted or choices[0])


def prepare(source: BuildSource, precision: Precision, floats: Floats, path: Path) -> tuple[tuple[str, str], ...]:
    """Writes the ONNX file for the parser; returns (node, wanted precision) of every linear layer and convolution.

    Raises PlanError for a Q/DQ graph that TensorRT would misread, BuildError for int8 or float8 without a plan.
    """
    from edgevit.graph import storage
    from edgevit.graph.passes.attention_decomposed import attention_decomposed, undecomposed
    from edgevit.graph.passes.half_precision import to_half_precision
    from edgevit.graph.passes.projection_split import projection_split
    from edgevit.targets.nvidia.lint import check_readable

    graph = _quantized(source, precision)
    check_readable(graph, source.onnx.path.name)
    left = undecomposed(graph)
    if left:
        raise BuildError(
            "expected attention of equal heads, with no cache of its own and no soft cap, for TensorRT, found "
            f"{left[0]}; export the model with openvino or onnxruntime"
        )
    layers = wanted_precisions(graph, floats)
    projection_split(graph)
    attention_decomposed(graph)
    if floats != "float32":
        to_half_precision(graph, floats)
    storage.save(graph, path, storage.ONE_FILE_LIMIT)  # the file stays in the bundle
    return layers


def _quantized(source: BuildSource, precision: Precision) -> ir.Model:
    """The graph with the Q/DQ of its precision, in float32 apart from that."""
    from edgevit.graph import storage

    if precision == "int8":
        from edgevit.graph.passes.tables_for_tensorrt import tables_for_tensorrt

        if source.quantized is None:
            raise BuildError("expected a quantized graph for an int8 build, found none; calibrate first")
        graph = storage.load(source.quantized.path)
        tables_for_tensorrt(graph)
        return graph
    graph = storage.load(source.onnx.path)
    if precision == "float8":
        from edgevit.quantize.write_float8 import write_float8

        if source.plan is None:
            raise BuildError("expected a plan for a float8 build, found none; calibrate first")
        write_float8(graph, source.plan)
    elif precision == "int4w":
        from edgevit.quantize.write_int4 import write_int4

        write_int4(graph)
    return graph


def wanted_precisions(model: ir.Model, floats: str) -> tuple[tuple[str, str], ...]:
    """(node, precision asked for) of every MatMul and Conv with a constant weight and every recurrent layer, in order.

    A tied weight is turned between its dequantization and its product.
    """
    found = []
    for node in model.graph:
        if node.op_type in RECURRENT:
            found.append((str(node.name), floats))
        weight = node.inputs[1] if node.op_type in ("MatMul", "Conv") and len(node.inputs) > 1 else None
        producer = None if weight is None else weight.producer()
        if producer is not None and producer.op_type == "Transpose":
            weight = producer.inputs[0]
            producer = None if weight is None else weight.producer()
        if weight is None:
            continue
        if producer is not None and producer.op_type == "DequantizeLinear":
            codes = producer.inputs[0]
            assert codes is not None and codes.dtype is not None
            found.append((str(node.name), CODES.get(codes.dtype.name, codes.dtype.name.lower())))
        elif weight.is_initializer():
            found.append((str(node.name), floats))
    return tuple(found)
