"""An ONNX file that somebody else exported, in the form that everything after lowering expects.

Weights become initializers, one per layer; linear layers MatMul and Add; the opset at least `LEAST_OPSET`. The result
is compared with the file as it was, in ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import CaptureError
from edgevit.graph import storage
from edgevit.graph.lower import TOLERANCE_DB, check_file
from edgevit.graph.passes import tidy
from edgevit.graph.passes.gemm_to_matmul import gemm_to_matmul
from edgevit.graph.passes.name_nodes import name_nodes

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from edgevit.types import FloatModel, OnnxModel, TensorSpec

LEAST_OPSET = 17
"""The first with LayerNormalization; per-channel DequantizeLinear is older."""
FOLDED_BYTES = 1 << 30
"""Largest constant that is computed ahead, such as a transposed weight."""


def adopt(model: FloatModel, path: Path, batch: int | None = None) -> OnnxModel:
    """Writes the graph of `model.onnx` to `path`, with `batch` as a fixed first dimension where one is given.

    Raises CaptureError where the opset cannot be upgraded or the result is no valid ONNX.
    """
    assert model.onnx is not None
    graph = _upgraded(model.onnx)
    if not model.quantized:
        _constants_to_initializers(graph)
        gemm_to_matmul(graph)
        _own_weights(graph)
        name_nodes(graph)
    _set_shapes(graph, model.signature.inputs, batch)
    tidy(graph)
    storage.save(graph, path)
    check_file(path)
    return storage.describe(graph, path)


def check_against_source(model: FloatModel, adopted: OnnxModel, max_batch: int) -> dict[int, float]:
    """SQNR in dB of the adopted graph against the file as it was, at batch 1, 2, 3 and `max_batch`, on seeded noise.

    Raises CaptureError below the tolerance that a lowered torch model has to keep.
    """
    from edgevit.graph.execute import Executor

    assert model.onnx is not None
    first = adopted.signature.inputs[0].shape[0]
    batches = [first] if isinstance(first, int) else sorted({1, 2, 3, max_batch})
    closeness: dict[int, float] = {}
    with Executor(model.onnx) as source, Executor(adopted.path) as executor:
        for batch in batches:
            inputs = {spec.name: _noise(spec, batch) for spec in model.signature.inputs}
            expected, found = source.run(inputs), executor.run(inputs)
            for spec in model.signature.outputs:
                noise = float(np.square(expected[spec.name].astype(np.float64) - found[spec.name]).sum())
                power = float(np.square(expected[spec.name].astype(np.float64)).sum())
                closeness[batch] = float(10 * np.log10(max(power, 1e-300) / max(noise, 1e-300)))
                if noise > 0 and closeness[batch] < TOLERANCE_DB:
                    raise CaptureError(
                        f"expected {adopted.path.name} to give the source's {spec.name} at batch {batch} within "
                        f"{TOLERANCE_DB:.0f} dB, found {closeness[batch]:.1f} dB; please report this model"
                    )
    return closeness


def _noise(spec: TensorSpec, batch: int) -> np.ndarray:
    shape = [dim if isinstance(dim, int) else batch for dim in spec.shape]
    return np.random.default_rng(0).normal(size=shape).astype(spec.dtype)


def _upgraded(path: Path) -> ir.Model:
    """The graph with at least `LEAST_OPSET` and without local functions; from 17 on the weights stay on disk."""
    import onnx
    import onnx_ir as ir
    from onnx import inliner, version_converter

    proto = onnx.load(str(path), load_external_data=False)
    opset = max((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset >= LEAST_OPSET and not proto.functions:
        return storage.load(path)
    try:
        whole = onnx.load(str(path))
        if whole.functions:
            whole = inliner.inline_local_functions(whole)
        if opset < LEAST_OPSET:
            whole = version_converter.convert_version(whole, LEAST_OPSET)
    except Exception as error:  # the converter's C++ raises RuntimeError, and others of its own
        reason = " ".join(str(error).split())[:200]
        raise CaptureError(
            f"expected {path.name} to convert from opset {opset} to {LEAST_OPSET}, found: {reason}; export it again "
            f"with opset {LEAST_OPSET} or newer"
        ) from error
    return ir.from_proto(whole)


def _constants_to_initializers(model: ir.Model) -> None:
    import onnx_ir.passes.common as common
    from onnxscript.optimizer import fold_constants

    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    fold_constants(model, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.IdentityEliminationPass()(model)


def _own_weights(model: ir.Model) -> None:
    """A weight that several layers read becomes one each: a plan has one entry per name."""
    import onnx_ir as ir

    seen: dict[str, int] = {}
    for node in model.graph:
        weight: Any = node.inputs[1] if node.op_type in ("MatMul", "Conv") and len(node.inputs) > 1 else None
        if weight is None or not weight.is_initializer():
            continue
        count = seen[weight.name] = seen.get(weight.name, 0) + 1
        if count > 1:
            name = f"{weight.name}.{count}"
            clone = ir.Value(name=name, const_value=weight.const_value, type=weight.type, shape=weight.shape)
            model.graph.initializers[name] = clone
            node.replace_input_with(1, clone)


def _set_shapes(model: ir.Model, inputs: tuple[TensorSpec, ...], batch: int | None) -> None:
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    for value in model.graph.inputs:
        spec = next((spec for spec in inputs if spec.name == value.name), None)
        if spec is not None:
            first = batch if batch is not None and isinstance(spec.shape[0], str) else spec.shape[0]
            value.shape = ir.Shape([first, *spec.shape[1:]])
    if batch is not None:
        for value in model.graph.outputs:
            if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
                value.shape = ir.Shape([batch, *value.shape.dims[1:]])
    common.ShapeInferencePass()(model)
