"""What `edgevit inspect` found, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.bundle import Manifest
from edgevit.types import QuantPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.pipeline.inspecting import OnnxSummary
    from edgevit.types import Signature


def lines(found: Manifest | QuantPlan | OnnxSummary) -> Iterator[str]:
    """One line per fact."""
    if isinstance(found, Manifest):
        yield from _manifest(found)
    elif isinstance(found, QuantPlan):
        yield from _plan(found)
    else:
        yield from _onnx(found)


def _manifest(manifest: Manifest) -> Iterator[str]:
    trained = "" if manifest.trained else " (untrained: speed and size only)"
    yield f"bundle of {manifest.model}{trained}, {manifest.task}, {len(manifest.labels)} labels"
    yield from _signature(manifest.signature)
    height, width = manifest.preprocess.size
    yield f"images: {manifest.preprocess.mode} {height}x{width}, {manifest.preprocess.resize}, mean {manifest.preprocess.mean}, std {manifest.preprocess.std}"
    if manifest.calibration:
        yield f"calibrated on {manifest.calibration.samples} samples of {manifest.calibration.set}"
    if manifest.evaluation:
        yield f"judged on {manifest.evaluation.samples} samples of {manifest.evaluation.set}, budget {manifest.budget_points} points"
    for build in manifest.builds:
        size = sum(file.size for file in build.files)
        latency = "" if build.latency_ms is None else f", {build.latency_ms:.2f} ms"
        executed = f", executes {build.execution.precision}" if build.execution else ""
        needs = f", needs {' or '.join(build.requires_any)}" if build.requires_any else ""
        yield f"{build.name}: {build.verdict}, {size / 1e6:.2f} MB{latency}{executed}{needs}"


def _plan(plan: QuantPlan) -> Iterator[str]:
    yield f"plan for {plan.model}: {len(plan.layers)} layers in int8, {len(plan.skipped)} in float"
    for layer in plan.layers:
        equalized = f", equalized into {layer.equalization_into}" if layer.equalization else ""
        yield f"{layer.name}: input scale {layer.input_scale:.6g} ({layer.input_method}), weights {layer.weight_method}{equalized}"
    for skipped in plan.skipped:
        yield f"{skipped.name}: float, {skipped.reason}"


def _onnx(summary: OnnxSummary) -> Iterator[str]:
    yield f"{summary.path}: opset {summary.opset}, {summary.weights_bytes / 1e6:.1f} MB of weights"
    yield from _signature(summary.signature)
    yield f"{summary.attention_blocks} attention blocks, {len(summary.layers)} quantizable layers"
    yield ", ".join(f"{count} {name}" for name, count in summary.operators.items())


def _signature(signature: Signature) -> Iterator[str]:
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            yield f"{kind} {spec.name}: {spec.dtype} ({', '.join(map(str, spec.shape))})"
