"""What `edgevit inspect` and `edgevit doctor` found, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.bundle import Manifest
from edgevit.report.formats import clean, count, size
from edgevit.types import ImagePreprocess, QuantPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.pipeline.diagnosis import Diagnosis, TargetState
    from edgevit.pipeline.inspecting import OnnxSummary
    from edgevit.types import Build, Generation, Signature, TextPreprocess


def lines(found: Manifest | QuantPlan | OnnxSummary) -> Iterator[str]:
    """One line per fact; names that came from a file are shown without control characters."""
    if isinstance(found, Manifest):
        shown = _manifest(found)
    elif isinstance(found, QuantPlan):
        shown = _plan(found)
    else:
        shown = _onnx(found)
    return (clean(line) for line in shown)


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """The machine, then each target with the command that would change a no."""
    machine = found.machine
    features = ", ".join(machine.instruction_sets) or "no instruction set that matters here"
    yield f"{machine.cpu}, {count(machine.cores, 'core')}, {size(machine.memory_bytes)}; {features}"
    for state in found.targets:
        yield from _target(state)


def _target(state: TargetState) -> Iterator[str]:
    able = ", ".join(name for name, reason in state.precisions.items() if not reason)
    yield f"{f'{state.target} {state.version}'.strip()}: build {_yes(state.build)}, run {_yes(state.run)}" + (
        f" ({able})" if able else ""
    )
    if state.build:
        for name, reason in state.precisions.items():
            if reason:
                yield f"  {name}: {reason}"
    if state.fix:
        yield f"  to change that: {state.fix}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _manifest(manifest: Manifest) -> Iterator[str]:
    trained = "" if manifest.trained else " (untrained: speed and size only)"
    labels = f", {count(len(manifest.labels), 'label')}" if manifest.labels else ""
    yield f"bundle of {manifest.model}{trained}: {manifest.task}{labels}"
    yield from _signature(manifest.signature)
    spec = manifest.preprocess
    yield f"images: {_images(spec)}" if isinstance(spec, ImagePreprocess) else f"texts: {_texts(spec)}"
    if manifest.generation:
        yield f"writes: {_writes(manifest.generation)}"
    if manifest.calibration:
        facts = manifest.calibration
        yield f"calibrated on {count(facts.samples, 'sample')} of {facts.set} ({facts.coverage}), seed {facts.seed}"
    if manifest.evaluation:
        judged = f"{count(manifest.evaluation.samples, 'sample')} of {manifest.evaluation.set}"
        yield f"judged on {judged}; a build may lose {manifest.budget_points:g} points"
    for build in manifest.builds:
        yield f"{build.name}: {_build(build)}"


def _build(build: Build) -> str:
    parts = [build.verdict, size(sum(file.size for file in build.files))]
    if build.latency_ms is not None:
        parts.append(f"{build.latency_ms:.2f} ms")
    if build.execution:
        parts.append(f"executes {build.execution.precision}")
    if build.worth:
        parts.append(build.worth)
    if build.takes_pixels:
        parts.append("takes raw pixels")
    if build.requires_any:
        parts.append(f"needs {' or '.join(build.requires_any)}")
    return ", ".join(parts)


def _images(spec: ImagePreprocess) -> str:
    height, width = spec.size
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    crop = "" if spec.crop_fraction == 1 else f", crop {spec.crop_fraction:g}"
    return f"{spec.mode} {height}x{width}, {spec.resize} {spec.interpolation}{crop}, mean {mean}, std {std}"


def _texts(spec: TextPreprocess) -> str:
    longer = "longer ones are cut" if spec.truncate else "longer ones are refused"
    return f"at most {count(spec.max_length, 'token')} of {spec.tokenizer}, {longer}"


def _writes(settings: Generation) -> str:
    search = "greedy search" if settings.beams == 1 else f"{settings.beams} beams"
    return f"at most {count(settings.max_length, 'token')} of {settings.tokenizer}, {search}"


def _plan(plan: QuantPlan) -> Iterator[str]:
    yield f"plan for {plan.model}: {count(len(plan.layers), 'layer')} in int8, {len(plan.skipped)} in float"
    yield f"weights safe for processors without VNNI: {_yes(plan.safe_without_vnni)}"
    for layer in plan.layers:
        equalized = f", equalized into {layer.equalization_into}" if layer.equalization else ""
        corrected = ", bias corrected" if layer.bias_correction else ""
        scale = f"input scale {layer.input_scale:.6g} ({layer.input_method})"
        yield f"{layer.name}: {scale}, weights {layer.weight_method}{equalized}{corrected}"
    for skipped in plan.skipped:
        yield f"{skipped.name}: float, {skipped.reason}"


def _onnx(summary: OnnxSummary) -> Iterator[str]:
    yield f"{summary.path}: opset {summary.opset}, {size(summary.weights_bytes)} of weights"
    yield from _signature(summary.signature)
    blocks, layers = count(summary.attention_blocks, "attention block"), len(summary.layers)
    yield f"{blocks}, {count(layers, 'quantizable layer')}"
    yield ", ".join(f"{number} {name}" for name, number in summary.operators.items())


def _signature(signature: Signature) -> Iterator[str]:
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            yield f"{kind} {spec.name}: {spec.dtype} ({', '.join(map(str, spec.shape))})"
