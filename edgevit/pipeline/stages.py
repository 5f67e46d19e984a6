"""The stages from a float model to the engines' files; each reads files, writes files and returns values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError, PlanError, StaleError
from edgevit.graph import storage
from edgevit.graph.adopt import adopt, check_against_source
from edgevit.graph.capture import CaptureOptions, capture
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.lower import check_against_torch, lower
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.choose import choose_plan
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.quantize.plan_file import read_plan, write_plan
from edgevit.quantize.planner import PlanOptions
from edgevit.quantize.statistics_file import load_statistics, save_statistics
from edgevit.quantize.write_onnx import write_quantized
from edgevit.sets import batches, take
from edgevit.targets import get_target, parse_target
from edgevit.targets.base import BuildSource
from edgevit.targets.processor import INT8_DOT_PRODUCTS, instruction_sets, multiplies_int8_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.pipeline.workbench import Workbench
    from edgevit.progress import Progress
    from edgevit.recipe import CalibrationSettings, Recipe
    from edgevit.sets import SampleSet
    from edgevit.types import CalibrationStats, FloatModel, OnnxModel, QuantPlan

GRAPH = "model.onnx"
PLAN_SAMPLES = 16
"""Calibration samples that whole plans are compared and biases corrected on: means settle long before ranges do."""


def lowered(bench: Workbench, model: FloatModel, recipe: Recipe, progress: Progress) -> OnnxModel:
    """Traces, lowers and checks against torch (an ONNX source: adopts, checks against it); or as in an earlier run."""
    import torch

    def produce(folder: Path) -> None:
        if model.onnx is not None:
            with progress.task("comparing with the source", None):
                adopted = adopt(model, folder / GRAPH, recipe.trace.batch)
                check_against_source(model, adopted, recipe.trace.max_batch)
            return
        options = CaptureOptions(batch=recipe.trace.batch, max_batch=recipe.trace.max_batch)
        with progress.task("tracing", None) as advance:
            program = capture(model, options)
            advance(0, "lowering to ONNX")
            written = lower(program, model, folder / GRAPH)
            del program
            advance(0, "comparing with torch")
            check_against_torch(model, written, recipe.trace.max_batch)

    inputs = {"source": model.digest, "trace": msgspec.to_builtins(recipe.trace), "torch": torch.__version__}
    folder = bench.stage("lower", inputs, produce)
    return storage.describe(storage.load(folder / GRAPH), folder / GRAPH)


def calibration_samples(samples: SampleSet, settings: CalibrationSettings) -> SampleSet:
    return take(samples, min(settings.samples, len(samples)), settings.seed)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen calibration samples and what was observed on them."""

    samples: SampleSet
    stats: CalibrationStats


def calibrated(
    bench: Workbench, model: FloatModel, onnx: OnnxModel, samples: SampleSet, recipe: Recipe, progress: Progress
) -> Calibration:
    """Statistics of the chosen calibration samples; or those of an earlier run over the same."""
    settings = recipe.calibration

    def produce(folder: Path) -> None:
        options = CalibrationOptions(set_name=samples.name, set_digest=samples.digest, seed=settings.seed)
        with progress.task(f"calibrating on {len(samples)} samples", len(samples)) as advance:
            stream = (batch.inputs for batch in batches(samples, model.preprocess, settings.batch))
            save_statistics(calibrate(onnx, stream, options, advance), folder / "statistics.npz")

    prepared = msgspec.to_builtins(model.preprocess)
    inputs = {"onnx": onnx.digest, "preprocess": prepared, "set": samples.digest, "seed": settings.seed}
    folder = bench.stage("calibrate", inputs, produce)
    stats = load_statistics(folder / "statistics.npz", onnx.digest, samples.digest)
    return Calibration(samples=samples, stats=stats)


def planned(
    bench: Workbench,
    model: FloatModel,
    onnx: OnnxModel,
    calibration: Calibration,
    recipe: Recipe,
    progress: Progress,
) -> QuantPlan:
    """The plan the searches find."""
    settings, samples, stats = recipe.plan, calibration.samples, calibration.stats
    safe = needs_safe_weights(settings.cpu)

    def produce(folder: Path) -> None:
        options = PlanOptions(
            model_name=model.name,
            ranges=settings.ranges,
            weights=settings.weights,
            equalize=frozenset(settings.equalize),
            bias_correction=settings.bias_correction,
            safe_without_vnni=safe,
            skip=settings.skip,
        )
        wanted = take(samples, min(PLAN_SAMPLES, len(samples)), 0)
        inputs = [batch.inputs for batch in batches(wanted, model.preprocess, recipe.trace.batch or 2)]
        done: list[str] = []
        with progress.task("planning scales", None) as advance:

            def decided(layer: str) -> None:
                done.append(layer)
                advance(len(done), layer)

            plan = choose_plan(onnx, stats, options, inputs, decided)
        write_plan(plan, folder / "plan.toml")

    inputs = {
        "statistics": stats.digest,
        "preprocess": msgspec.to_builtins(model.preprocess),
        "plan": msgspec.to_builtins(settings),
        "safe": safe,
    }
    folder = bench.stage("plan", inputs, produce)
    return read_plan(folder / "plan.toml")


def needs_safe_weights(cpu: str) -> bool:
    """Whether int8 weights must be safe for processors without an int8 dot product."""
    return cpu == "any" or (cpu == "auto" and not multiplies_int8_exactly(instruction_sets()))


def given_plan(path: Path, onnx: OnnxModel) -> QuantPlan:
    """A plan from a file, checked against the model: the same layers with the same numbers of channels.

    A plan made for another model is refused unless every layer fits; then it is taken as the person's intention.
    """
    plan = read_plan(path)
    layers = quantizable_layers(storage.load(onnx.path))
    try:
        check_plan_fits(plan, {layer.name: (layer.out_channels, layer.in_channels) for layer in layers})
    except PlanError as error:
        if plan.model_digest != onnx.digest:
            made_for = plan.model or "unnamed"
            raise StaleError(f"{path} was made for another model ({made_for}) and does not fit: {error}") from error
        raise
    return plan


def quantized(bench: Workbench, onnx: OnnxModel, plan: QuantPlan, progress: Progress) -> OnnxModel:
    """The Q/DQ graph of the plan."""

    def produce(folder: Path) -> None:
        with progress.task("writing Q/DQ", None):
            write_quantized(onnx, plan, folder / GRAPH)

    inputs = {"onnx": onnx.digest, "plan": msgspec.to_builtins(plan)}
    folder = bench.stage("quantize", inputs, produce)
    return storage.describe(storage.load(folder / GRAPH), folder / GRAPH)


def built(bench: Workbench, text: str, source: BuildSource, recipe: Recipe, progress: Progress) -> Path:
    """The engine's files for the target `text` (`openvino:int8`), and `options.json` of what was really used."""
    name, precision = parse_target(text)
    target = get_target(name)
    options = recipe.options.get(text, {})

    def produce(folder: Path) -> None:
        with progress.task(f"building {text}", None):
            files = folder / "files"
            files.mkdir()
            used = target.build(source, precision, options, files)
            (folder / "options.json").write_bytes(msgspec.json.encode(used))

    inputs: dict[str, object] = {
        "target": text,
        "version": target.availability().version,
        "options": options,
        "onnx": source.onnx.digest,
        "quantized": source.quantized.digest if precision == "int8" and source.quantized else "",
    }
    return bench.stage(f"build-{name}-{precision}", inputs, produce)


def requires_any(precision: str, plan: QuantPlan | None) -> tuple[str, ...]:
    """What an x86-64 processor must have for right results from an int8 build of this plan."""
    if precision != "int8" or plan is None or plan.safe_without_vnni:
        return ()
    return INT8_DOT_PRODUCTS


def check_set(name: str | None, purpose: str, model: str) -> str:
    """The SET that was given or published with the model; raises InputError saying how to give one."""
    if name is None:
        raise InputError(
            f"expected a set for {purpose} of {model}, found none; give --{purpose} SET (a folder of images or a TOML)"
        )
    return name
