"""The stages from a float model to the engines' files; each reads files, writes files and returns values."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError, PlanError, StaleError
from edgevit.graph import storage
from edgevit.graph.adopt import adopt, check_against_source
from edgevit.graph.capture import CaptureOptions, capture
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.lower import check_against_torch, lower
from edgevit.pipeline.feeding import part_inputs
from edgevit.pipeline.parts import (
    WHOLE,
    graphs_digest,
    layer_names,
    merged,
    part_models,
    patterns_of,
    split,
    whole_digest,
)
from edgevit.pipeline.pixels import OPTION, own_options, preprocessing_alone, source_with_pixels, wants_pixels
from edgevit.pipeline.translators import settings_of
from edgevit.quantize.calibrate import CalibrationOptions, calibrate
from edgevit.quantize.choose import choose_plan
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.quantize.plan_file import read_plan, write_plan
from edgevit.quantize.planner import PlanOptions
from edgevit.quantize.statistics_file import load_statistics, save_statistics
from edgevit.quantize.write_onnx import write_quantized
from edgevit.sets import take
from edgevit.targets import get_target, parse_target
from edgevit.targets.base import BuildSource
from edgevit.targets.processor import INT8_DOT_PRODUCTS, instruction_sets, multiplies_int8_exactly
from edgevit.types import PREPROCESSING, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgevit.pipeline.workbench import Workbench
    from edgevit.progress import Progress
    from edgevit.recipe import CalibrationSettings, PlanSettings, Recipe
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, CalibrationStats, FloatModel, OnnxModel, Precision, QuantPlan

GRAPH = "model.onnx"
STATISTICS = "statistics.npz"
PLANNED: tuple[Precision, ...] = ("float8", "int8", "int8d", "int8w", "int4d")
"""The precisions whose builds are made from a plan, and so need a calibration or a given one."""
PLAN_SAMPLES = 16
"""Calibration samples that biases are corrected on (one half) and whole plans compared on (the other): means settle
long before ranges do."""
PLAN_BATCH = 8
"""Of them at a time: the simulation dequantizes all weights in every run."""


def lowered(bench: Workbench, model: FloatModel, recipe: Recipe, progress: Progress) -> dict[str, OnnxModel]:
    """Traces, lowers and checks every part against torch (an ONNX source: adopts, checks against it), by part name.

    Or as in an earlier run.
    """
    import torch

    parts = part_models(model)

    def produce(folder: Path) -> None:
        if model.onnx is not None:
            with progress.task("comparing with the source", None):
                adopted = adopt(model, folder / GRAPH, recipe.trace.batch)
                check_against_source(model, adopted, recipe.trace.max_batch)
            return
        for part, traced in parts.items():
            (folder / part).mkdir(exist_ok=True)
            _lower(traced, folder / part / GRAPH, recipe, progress)

    inputs = {"source": model.digest, "trace": msgspec.to_builtins(recipe.trace), "torch": torch.__version__}
    return _described(bench.stage("lower", inputs, produce), parts)


def _lower(model: FloatModel, path: Path, recipe: Recipe, progress: Progress) -> None:
    options = CaptureOptions(batch=recipe.trace.batch, max_batch=recipe.trace.max_batch)
    with progress.task("tracing", 3) as advance:
        program = capture(model, options)
        advance(1, "lowering to ONNX")
        written = lower(program, model, path)
        del program
        advance(2, "comparing with torch")
        check_against_torch(model, written, recipe.trace.max_batch, longest(model))


def longest(model: FloatModel) -> dict[str, int]:
    """The largest size of each length: what the model's texts and what it writes can have."""
    if not isinstance(model.preprocess, TextPreprocess):
        return {}
    target = model.generation.max_length if model.generation else model.preprocess.max_length
    return {"source_length": model.preprocess.max_length, "target_length": target}


def _described(folder: Path, parts: Iterable[str]) -> dict[str, OnnxModel]:
    """The graphs that a stage wrote, by part."""
    paths = {part: folder / part / GRAPH for part in parts}
    return {part: storage.describe(storage.load(path), path) for part, path in paths.items()}


def calibration_samples(samples: SampleSet, settings: CalibrationSettings) -> SampleSet:
    return take(samples, min(settings.samples, len(samples)), settings.seed)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen calibration samples and what was observed on them."""

    samples: SampleSet
    stats: dict[str, CalibrationStats]
    """By part of the model."""


def calibrated(
    bench: Workbench,
    model: FloatModel,
    graphs: dict[str, OnnxModel],
    samples: SampleSet,
    recipe: Recipe,
    progress: Progress,
) -> Calibration:
    """Statistics of the chosen calibration samples; or those of an earlier run over the same."""
    settings = recipe.calibration

    def produce(folder: Path) -> None:
        options = CalibrationOptions(set_name=samples.name, set_digest=samples.digest, seed=settings.seed)
        for part, graph in graphs.items():
            (folder / part).mkdir(exist_ok=True)
            named = f"calibrating the {part}" if part else "calibrating"
            with progress.task(f"{named} on {len(samples)} samples", len(samples)) as advance:
                stream = part_inputs(model, graphs, part, samples, settings.batch)
                seen = calibrate(graph, stream, options, advance)
            # A decoder is called several times for a text: what counts are the texts.
            seen = msgspec.structs.replace(seen, samples=len(samples))
            save_statistics(seen, folder / part / STATISTICS)

    prepared = msgspec.to_builtins(model.preprocess)
    inputs: dict[str, object] = {
        "onnx": graphs_digest(graphs),
        "preprocess": prepared,
        "set": samples.digest,
        "seed": settings.seed,
        **_writing(model),
    }
    folder = bench.stage("calibrate", inputs, produce)
    stats = {
        part: load_statistics(folder / part / STATISTICS, graph.digest, samples.digest)
        for part, graph in graphs.items()
    }
    return Calibration(samples=samples, stats=stats)


def planned(
    bench: Workbench,
    model: FloatModel,
    graphs: dict[str, OnnxModel],
    calibration: Calibration,
    recipe: Recipe,
    progress: Progress,
) -> QuantPlan:
    """The plan the searches find, one for all parts."""
    settings, stats = recipe.plan, calibration.stats
    safe = needs_safe_weights(settings.cpu)

    def produce(folder: Path) -> None:
        names = {part: layer_names(graph) for part, graph in graphs.items()}
        skip = patterns_of(settings.skip, names)
        done: list[str] = []
        with progress.task("planning scales", sum(map(len, names.values()))) as advance:

            def decided(layer: str) -> None:
                done.append(layer)
                advance(len(done), layer)

            plans = {}
            for part, graph in graphs.items():
                options = _plan_options(model.name, settings, safe, skip[part])
                inputs = _plan_inputs(model, graphs, part, calibration.samples, recipe)
                plans[part] = choose_plan(graph, stats[part], options, inputs, decided)
        write_plan(merged(plans, graphs), folder / "plan.toml")

    inputs: dict[str, object] = {
        "statistics": whole_digest({part: seen.digest for part, seen in stats.items()}),
        "preprocess": msgspec.to_builtins(model.preprocess),
        "plan": msgspec.to_builtins(settings),
        "safe": safe,
        **_writing(model),
    }
    folder = bench.stage("plan", inputs, produce)
    return read_plan(folder / "plan.toml")


def _writing(model: FloatModel) -> dict[str, object]:
    """What the calls of a decoder depend on besides its graphs."""
    return {} if model.generation is None else {"generation": msgspec.to_builtins(settings_of(model))}


def _plan_options(name: str, settings: PlanSettings, safe: bool, skip: tuple[str, ...]) -> PlanOptions:
    return PlanOptions(
        model_name=name,
        ranges=settings.ranges,
        weights=settings.weights,
        equalize=frozenset(settings.equalize),
        bias_correction=settings.bias_correction,
        safe_without_vnni=safe,
        skip=skip,
    )


def _plan_inputs(
    model: FloatModel, graphs: dict[str, OnnxModel], part: str, samples: SampleSet, recipe: Recipe
) -> list[Arrays]:
    """A few calibration samples as inputs of one part."""
    wanted = take(samples, min(PLAN_SAMPLES, len(samples)), 0)
    batch = min(PLAN_BATCH, max(1, len(wanted) // 2))  # in two halves, however few there are
    return list(part_inputs(model, graphs, part, wanted, recipe.trace.batch or batch))


def needs_safe_weights(cpu: str) -> bool:
    """Whether int8 weights must be safe for processors without an int8 dot product."""
    return cpu == "any" or (cpu == "auto" and not multiplies_int8_exactly(instruction_sets()))


def given_plan(path: Path, graphs: dict[str, OnnxModel]) -> QuantPlan:
    """A plan from a file, checked against the model: the same layers with the same numbers of channels.

    A plan made for another model is refused unless every layer fits; then it is taken as the person's intention.
    """
    plan = read_plan(path)
    layers = [layer for graph in graphs.values() for layer in quantizable_layers(storage.load(graph.path))]
    try:
        check_plan_fits(plan, {layer.name: (layer.out_channels, layer.in_channels) for layer in layers})
    except PlanError as error:
        if plan.model_digest != graphs_digest(graphs):
            made_for = plan.model or "unnamed"
            raise StaleError(f"{path} was made for another model ({made_for}) and does not fit: {error}") from error
        raise
    return plan


def quantized(
    bench: Workbench, graphs: dict[str, OnnxModel], plan: QuantPlan, progress: Progress
) -> dict[str, OnnxModel]:
    """The Q/DQ graphs of the plan, by part."""

    def produce(folder: Path) -> None:
        with progress.task("writing Q/DQ", None):
            for part, own in split(plan, graphs).items():
                (folder / part).mkdir(exist_ok=True)
                write_quantized(graphs[part], own, folder / part / GRAPH)

    inputs = {"onnx": graphs_digest(graphs), "plan": msgspec.to_builtins(plan)}
    return _described(bench.stage("quantize", inputs, produce), graphs)


def built(
    bench: Workbench,
    text: str,
    model: FloatModel,
    sources: dict[str, BuildSource],
    recipe: Recipe,
    progress: Progress,
) -> Path:
    """The engine's files for the target `text` (`openvino:int8`), and `options.json` of what was really used.

    `sources` are by part; the files of a part lie in `files/` and the part's name. A target that adds something around
    them does so in its `complete`.
    """
    name, precision = parse_target(text)
    target = get_target(name)
    complete = getattr(target, "complete", None)
    options = recipe.options.get(text, {})

    def produce(folder: Path) -> None:
        with progress.task(f"building {text}", None):
            used: dict[str, dict[str, str]] = {}
            for part, source in sources.items():
                files = folder / "files" / part
                files.mkdir(parents=True)
                used[part] = _built_part(source, model, text, options, files)
            if complete is not None:
                graphs = {part: source.onnx.signature for part, source in sources.items()}
                used[WHOLE] = used.get(WHOLE, {}) | complete(model, graphs, folder / "files")
            (folder / "options.json").write_bytes(msgspec.json.encode(together(used)))

    narrow = precision in PLANNED
    digests = {part: one.quantized.digest if narrow and one.quantized else "" for part, one in sources.items()}
    inputs: dict[str, object] = {
        "target": text,
        **({"preprocess": msgspec.to_builtins(model.preprocess)} if wants_pixels(options) else {}),
        "version": target.availability().version,
        "options": options,
        "onnx": whole_digest({part: source.onnx.digest for part, source in sources.items()}),
        "quantized": whole_digest(digests),
    }
    if complete is not None:
        about = (model.name, model.task, model.labels, model.preprocess, model.generation)
        inputs["model"] = msgspec.to_builtins(about)
    return bench.stage(f"build-{name}-{precision}", inputs, produce)


def _built_part(
    source: BuildSource, model: FloatModel, text: str, options: dict[str, str], files: Path
) -> dict[str, str]:
    """The engine's files of one part; returns the options that were really used."""
    name, precision = parse_target(text)
    target = get_target(name)
    own = own_options(target, options)
    if not wants_pixels(options):
        return target.build(source, precision, own, files)
    if precision not in PLANNED:  # nothing reads it, and of a large model it is another gigabyte to write
        source = msgspec.structs.replace(source, quantized=None)
    graphs = files.with_name("graphs")
    used = target.build(source_with_pixels(source, model.preprocess, graphs), precision, own, files)
    alone = preprocessing_alone(source, model.preprocess, graphs)
    (files / PREPROCESSING).mkdir()
    target.build(alone, precision, own, files / PREPROCESSING)
    shutil.rmtree(graphs)
    return {**used, OPTION: options[OPTION]}


def together(used: dict[str, dict[str, str]]) -> dict[str, str]:
    """The options of all parts as one: what differs is said of each part."""
    names = dict.fromkeys(name for options in used.values() for name in options)
    said = {name: {part: options[name] for part, options in used.items() if name in options} for name in names}
    return {
        name: next(iter(values.values()))
        if len(set(values.values())) == 1
        else "; ".join(f"{part}: {value}" for part, value in values.items())
        for name, values in said.items()
    }


def requires_any(precision: str, plan: QuantPlan | None) -> tuple[str, ...]:
    """What an x86-64 processor must have for right results from an int8 build of this plan."""
    if precision != "int8" or plan is None or plan.safe_without_vnni:
        return ()
    return INT8_DOT_PRODUCTS


def check_set(name: str | None, purpose: str, model: str) -> str:
    """The SET that was given or published with the model; raises InputError saying how to give one."""
    if name is None:
        raise InputError(
            f"expected a set for {purpose} of {model}, found none; give --{purpose} SET (a folder of images, a file of "
            "texts, a TOML)"
        )
    return name
