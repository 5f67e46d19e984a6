"""LiteRT (TensorFlow Lite), for Android, iOS and microprocessors: a `.tflite` in float32, int8d and int8 from the plan.

Facts this file answers to: the vendor's converter (litert-torch 0.10) pins typing-extensions below 4.13 and cannot be
installed beside the other targets' packages, so the flatbuffer is written here, operator by operator, from the float
ONNX graph; a batch has a graph and a signature of its own, which share their weights, and lengths of texts stay free:
LiteRT 2.3.0 infers shapes anew when an input is resized, and its delegate follows; it counts in int32, which a file's
interface says and a session converts to; static int8 kernels write integers and need an output scale. Its runtime is a
wheel of its own: parity is executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import BuildError, InputError
from edgevit.targets.delegation import check_share, least_share, write_delegation
from edgevit.targets.installed import installed_version, with_exporter
from edgevit.targets.tflite.session import MODEL, NO_OUTPUT_SCALE, LitertSession, allocated, import_interpreter

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from edgevit.targets.base import Availability, BuildSource, OpenOptions
    from edgevit.types import Build, LayerPlan, Precision, QuantPlan, Signature

name = "litert"
precisions: tuple[Precision, ...] = ("float32", "int8", "int8d")

INSTALL = "pip install 'edgevit[litert]'"
OPTIONS = "batches=1,8, those that get a graph of their own; min_delegated=0…1, of multiply-accumulates"
BATCHES = "1"
"""A second graph shares the file's weights, but the delegate packs them for each: ViT-B/16 in float32 takes 683 MB with
one, 1,010 MB with two."""
RECURRENT = ("LSTM", "GRU", "RNN")
TYPES = ("float32", "int64", "int32", "bool")
"""Of the inputs of a model; int64 becomes int32 in the file."""


def availability() -> Availability:
    return with_exporter(installed_version("ai-edge-litert"), INSTALL)


def why_not(precision: Precision) -> str:
    """Its kernels run on every processor that the runtime is installed on."""
    return ""


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.tflite and delegation.json: what of it XNNPACK executes, as LiteRT's interpreter itself says.

    Raises InputError for a model whose inputs are not float32, integers or booleans, BuildError for an operator that is
    not known here, for dynamic dimensions that it cannot follow, without a plan, or where less than `min_delegated` is
    delegated.
    """
    batches, least = _settings(source.onnx.signature, options)
    import_interpreter()
    _check_inputs(source.onnx.signature)
    if precision != "float32" and source.plan is None:
        raise BuildError(f"expected a plan for {name}:{precision}, found none; calibrate first")

    from edgevit.graph import storage
    from edgevit.targets.tflite.counting import count_delegation
    from edgevit.targets.tflite.model import GraphWriter, ModelWriter
    from edgevit.targets.tflite.translation import GraphTranslation

    graph = storage.load(source.onnx.path)
    _check_recurrence(graph)
    plan = None if precision == "float32" else source.plan
    entries, left_float = _entries(graph, plan, precision)
    writer = ModelWriter(f"edgevit {precision}")
    for batch in batches:
        key = f"batch_{batch}"
        GraphTranslation(graph, GraphWriter(writer, key), batch, precision, entries).write(key)
    content = writer.content()
    reasons = dict.fromkeys(left_float, NO_OUTPUT_SCALE)
    delegation = count_delegation(allocated(content), precision, reasons)
    check_share(delegation, least, f"{name}:{precision}")
    (out / MODEL).write_bytes(content)
    write_delegation(delegation, out)
    used = {"batches": ",".join(str(batch) for batch in batches), "delegated": delegation.summary()}
    if delegation.fallbacks:
        used["fell_back"] = delegation.listed_fallbacks()
    narrowed = [spec.name for spec in source.onnx.signature.inputs if spec.dtype == "int64"]
    return {**used, "int32_inputs": ", ".join(narrowed)} if narrowed else used


def open(directory: Path, build: Build, options: OpenOptions) -> LitertSession:
    """Opens a build of this target. Raises BundleError for what is truncated, foreign or of another schema."""
    return LitertSession(directory, build, options)


def _entries(
    graph: ir.Model, plan: QuantPlan | None, precision: Precision
) -> tuple[dict[str, LayerPlan], tuple[str, ...]]:
    """The layers that become int8, and those of the plan that cannot; weights are adjusted in place."""
    if plan is None:
        return {}, ()
    from edgevit.quantize.write_onnx import adjusted_layers

    adjusted_layers(graph, plan)
    if precision == "int8d":  # a convolution's inputs would share one scale over the whole image
        return {entry.name: entry for entry in plan.layers if entry.kind in ("linear", "embedding")}, ()
    known = [entry for entry in plan.layers if entry.kind in ("linear", "conv", "embedding")]
    left = [entry.name for entry in known if entry.kind != "embedding" and entry.output_scale is None]
    return {entry.name: entry for entry in known if entry.name not in left}, tuple(left)


def _check_inputs(signature: Signature) -> None:
    for spec in signature.inputs:
        if spec.dtype not in TYPES:
            raise InputError(
                f"expected inputs of {', '.join(TYPES)} for {name}, found {spec.dtype} at {spec.name}; build "
                "onnxruntime"
            )


def _check_recurrence(graph: ir.Model) -> None:
    """Its recurrent operators know neither the lengths of rows nor how a reversed row with padding begins."""
    for node in graph.graph:
        if node.op_type in RECURRENT:
            raise InputError(
                f"expected no recurrent layer for {name}, found {node.op_type} at {node.name}: its operators take no "
                "lengths of padded texts; build onnxruntime or ort-mobile"
            )


def _settings(signature: Signature, options: dict[str, str]) -> tuple[tuple[int, ...], float]:
    """(batches, least share of multiply-accumulates). Raises InputError for options that make no sense."""
    unknown = sorted(set(options) - {"batches", "min_delegated"})
    if unknown:
        raise InputError(f"expected options of {name} ({OPTIONS}), found {unknown[0]}={options[unknown[0]]}")
    first = signature.inputs[0].shape[0]
    fixed = isinstance(first, int)
    wanted = options.get("batches", str(first) if fixed else BATCHES)
    sizes = wanted.split(",")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"expected options of {name} ({OPTIONS}), found batches={wanted}")
    if fixed and wanted != str(first):
        raise InputError(f"expected the batch {first} that the model was traced with for {name}, found {wanted}")
    least = least_share(options.get("min_delegated", "0"))
    if least is None:
        raise InputError(f"expected options of {name} ({OPTIONS}), found min_delegated={options['min_delegated']}")
    return tuple(sorted({int(size) for size in sizes})), least
