"""A torch.export program as a float32 ONNX file: named parameters, recognizable attention, checked against torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import CaptureError, missing_package
from edgevit.graph import storage
from edgevit.graph.attention import check_attention
from edgevit.graph.capture import MAX_BATCH
from edgevit.graph.examples import Traceable, distinct_sizes, example_inputs, named_lengths, size_cases
from edgevit.graph.names import forget_origin, restore_names
from edgevit.graph.passes import tidy
from edgevit.graph.passes.attention_heads import attention_heads
from edgevit.graph.passes.attention_masks import attention_masks
from edgevit.graph.passes.gemm_to_matmul import gemm_to_matmul
from edgevit.graph.passes.name_nodes import name_nodes
from edgevit.graph.passes.recurrent_weights import recurrent_weights
from edgevit.graph.passes.written_out import written_out
from edgevit.graph.quiet import quiet_torch
from edgevit.graph.recurrent import onnx_translation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir
    import torch

    from edgevit.graph.execute import Executor
    from edgevit.types import OnnxModel

OPSET = 23
"""The first with an Attention operator: below it attention is a dozen nodes that every engine has to find again."""
TOLERANCE_DB = 80.0
"""SQNR the float graph must keep against torch; float32 noise of a ViT-L lies above 100 dB."""


def lower(program: torch.export.ExportedProgram, model: Traceable, path: Path) -> OnnxModel:
    """Writes `path` (and its external data above 16 MB); opset 23.

    Raises CaptureError if the graph fails onnx.checker, loses a parameter's name or an attention block.
    """
    graph, weights = _exported(program, model)
    parameters = dict(model.module.named_parameters())
    restore_names(graph, parameters)
    recurrent_weights(graph, parameters)
    forget_origin(graph)
    gemm_to_matmul(graph)
    written_out(graph)
    attention_heads(graph)
    attention_masks(graph)
    check_attention(graph, model.depth, model.name)
    name_nodes(graph)
    tidy(graph)
    storage.save(graph, path)
    check_file(path)
    described = storage.describe(graph, path)
    # The rules of onnxscript's rewriter keep the last graph they have seen, and by that all of torch's weights.
    for value in (*weights, *graph.graph.initializers.values()):
        value.const_value = None
    return described


def to_graph(program: torch.export.ExportedProgram, model: Traceable) -> ir.Model:
    """The dynamo exporter's graph, with the signature's names on inputs, outputs and dynamic dimensions."""
    return _exported(program, model)[0]


def _exported(program: torch.export.ExportedProgram, model: Traceable) -> tuple[ir.Model, tuple[ir.Value, ...]]:
    """The graph, and the values that held torch's weights before they were folded."""
    import torch

    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package("onnxscript", "export", "lowering to ONNX") from error
    examples = example_inputs(model, distinct_sizes(model.signature, 2))
    try:
        with quiet_torch():
            exported = torch.onnx.export(
                program,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in model.signature.inputs],
                output_names=[spec.name for spec in model.signature.outputs],
                custom_translation_table=onnx_translation(),
                optimize=False,
                verbose=False,
            )
            assert exported is not None
            weights = tuple(exported.model.graph.initializers.values())
            exported.optimize()
    except torch.onnx.OnnxExporterError as error:
        raise CaptureError(
            f"expected every operator of {model.name} to have an ONNX form, found: {_cause(error)}; "
            "rewrite that operation in the model"
        ) from error
    graph: ir.Model = exported.model
    _name_dynamic_dimensions(graph, model)
    graph.producer_name, graph.producer_version = "edgevit", ""
    return graph, weights


def check_file(path: Path) -> None:
    """onnx.checker with full shape inference on the file, external data included."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise CaptureError(f"expected {path.name} to be valid ONNX, onnx.checker found: {first}") from error


def check_against_torch(
    model: Traceable, onnx_model: OnnxModel, max_batch: int = MAX_BATCH, longest: Mapping[str, int] | None = None
) -> dict[int, float]:
    """SQNR in dB of ONNX Runtime against torch at batch 1, 2, 3 and `max_batch`, the least over all lengths tried.

    Lengths run from 1 (a past: from 0) to `longest` of their name, or `examples.LENGTH`. Inputs are seeded noise, valid
    ids and ragged masks. Raises CaptureError below `TOLERANCE_DB`: a graph that is right at one size only has that
    size baked in.
    """
    from edgevit.graph.execute import Executor

    first = onnx_model.signature.inputs[0].shape[0]
    batches = [first] if isinstance(first, int) else sorted({1, 2, 3, max_batch})
    lengths = named_lengths(model.signature)
    closeness: dict[int, float] = {}
    with Executor(onnx_model.path) as executor:
        for sizes in size_cases(model.signature, batches, longest or {}):
            batch = next((size for name, size in sizes.items() if name not in lengths), batches[0])
            for name, found in _closeness(model, executor, sizes).items():
                closeness[batch] = min(found, closeness.get(batch, np.inf))
                if found < TOLERANCE_DB:
                    at = ", ".join((f"batch {batch}", *(f"{length} {sizes[length]}" for length in lengths)))
                    raise CaptureError(
                        f"expected {onnx_model.path.name} to give torch's {name} at {at} within "
                        f"{TOLERANCE_DB:.0f} dB, found {found:.1f} dB; the trace has frozen something that depends on "
                        "a size or the input"
                    )
    return closeness


def _closeness(model: Traceable, executor: Executor, sizes: Mapping[str, int]) -> dict[str, float]:
    """SQNR of every output by name, at one set of sizes."""
    import torch

    inputs = example_inputs(model, sizes)
    with torch.no_grad():
        expected = _tuple(model.module(*inputs))
    names = [spec.name for spec in model.signature.inputs]
    found = executor.run({name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    return {
        spec.name: _sqnr(reference.numpy(), found[spec.name])
        for spec, reference in zip(model.signature.outputs, expected, strict=True)
    }


def _cause(error: BaseException) -> str:
    """The first line of the innermost error: the outer ones are advice for developers of torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    if reference.shape != found.shape:
        return -np.inf
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    if noise == 0:
        return np.inf
    return float(10 * np.log10(max(float(np.square(reference.astype(np.float64)).sum()), 1e-300) / noise))


def _name_dynamic_dimensions(graph: ir.Model, model: Traceable) -> None:
    """torch names a dynamic dimension `s77`; the signature's own name is what people read, in sums too."""
    import re

    import onnx_ir as ir

    renamed: dict[str, str] = {}
    for value, spec in zip(graph.graph.inputs, model.signature.inputs, strict=True):
        assert value.shape is not None
        for found, wanted in zip(value.shape.dims, spec.shape, strict=True):
            if isinstance(found, ir.SymbolicDim) and isinstance(wanted, str) and found.value is not None:
                renamed[found.value] = wanted
    values = [*graph.graph.inputs, *(output for node in graph.graph.all_nodes() for output in node.outputs)]
    for value in values:
        if value.shape is None:
            continue
        for index, dim in enumerate(value.shape.dims):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                value.shape[index] = re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), dim.value)
    for value, spec in zip(graph.graph.outputs, model.signature.outputs, strict=True):
        # Two pasts of one length have two symbols, and a sum has two orders: the signature says it once.
        if value.shape is not None and len(value.shape) == len(spec.shape):
            for index, wanted in enumerate(spec.shape):
                if isinstance(wanted, str) and not isinstance(value.shape[index], int):
                    value.shape[index] = wanted
