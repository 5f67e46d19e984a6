"""recipe → bundle: export in order, every stage resumable, the bundle complete or absent."""

from __future__ import annotations

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgevit.bundle import MANIFEST, Manifest
from edgevit.errors import InputError, RecipeError, StaleError, UnavailableError, missing_package
from edgevit.files import staged_directory
from edgevit.measure.options import check as check_bench
from edgevit.pipeline.assembly import Draft, assemble, bench_options
from edgevit.pipeline.compiled import simulated_rungs
from edgevit.pipeline.evaluation import evaluated
from edgevit.pipeline.parts import part_models, split
from edgevit.pipeline.pixels import check_input, check_model, own_options
from edgevit.pipeline.proof import comparison, stage_rungs
from edgevit.pipeline.stages import (
    PLANNED,
    built,
    calibrated,
    calibration_samples,
    check_set,
    given_plan,
    lowered,
    planned,
    quantized,
)
from edgevit.pipeline.workbench import Workbench
from edgevit.progress import Progress, Silent
from edgevit.quantize.histogram_ranges import NAMED_METHODS
from edgevit.quantize.plan_file import read_plan
from edgevit.recipe import Recipe, check_recipe
from edgevit.sets import Wanted, check_disjoint, label_places, open_set, read_label_map, take, with_label_map
from edgevit.sources import SourceOptions, open_source
from edgevit.targets import get_target, parse_target
from edgevit.targets.base import BuildSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.pipeline.size_budget import SizeChoice
    from edgevit.sets import SampleSet
    from edgevit.types import BenchReport, FloatModel, OnnxModel, ParityReport, Precision, QuantPlan, Signature


NEEDED = {
    "torch": ("export", "tracing a model"),
    "onnx": ("export", "lowering a model to ONNX"),
    "onnx_ir": ("export", "lowering a model to ONNX"),
    "onnxscript": ("export", "lowering a model to ONNX"),
    "onnxruntime": ("export", "calibrating and simulating a model"),
    "jinja2": ("report", "writing the report's page"),
    "matplotlib": ("report", "drawing the report's plots"),
}
"""Package to (extra, what needs it)."""


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    force: bool = False
    """Replace an existing bundle, once the new one is complete."""
    command: str = ""
    """The command line, for the report."""


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    path: Path
    manifest: Manifest
    parity: ParityReport
    bench: BenchReport | None
    failed: tuple[str, ...]
    """Names of the rungs out of their budget; empty for a bundle that may be shipped."""
    choice: SizeChoice | None = None
    """The build that fits a size, where one was asked for."""


def export(
    recipe: Recipe, out: str | Path, options: ExportOptions | None = None, progress: Progress | None = None
) -> ExportResult:
    """Makes the bundle `out` by `recipe`: traces, calibrates, plans, builds, proves and measures every target.

    The bundle is written also when a build fails its budget; then `failed` is not empty and the build is marked.
    Finished stages stay beside `out` until the export succeeds, and are used again where their inputs are unchanged.
    Raises InputError, UnavailableError, BuildError, OutputError; nothing half-written is left at `out`.
    """
    options, progress, out = options or ExportOptions(), progress or Silent(), Path(out)
    _check_settings(recipe)
    recipe = _with_precisions(recipe)
    targets, unavailable = _targets(recipe)
    _check_target_options(targets, recipe, ())
    _check_packages()
    recipe = _with_fixed_batch(recipe)
    with Workbench(out.absolute(), progress) as bench:
        with staged_directory(out, replace=options.force, marker=MANIFEST) as stage:
            draft = _draft(recipe, targets, bench, progress)
            draft = msgspec.structs.replace(draft, command=options.command, unavailable=unavailable)
            assembled = assemble(draft, stage, bench, progress)
        bench.clear()
    return ExportResult(path=out, **assembled)


def _draft(recipe: Recipe, targets: tuple[str, ...], bench: Workbench, progress: Progress) -> Draft:
    """Everything up to the engines' files, and the rungs of the ladder that need no engine."""
    with bench.timed("load"), progress.task(f"loading {recipe.model}", None):
        model = _model(recipe)
        recipe = _with_batch_of(model, recipe)
        _check_quantizable(model, targets)
        _check_model(model, targets)
        evaluation_set, calibration_set = _sets(model, recipe, targets)
        check_model(model, evaluation_set, targets, recipe)
    for note in model.notes:
        progress.note(f"{model.name}: {note}")
    graphs = lowered(bench, model, recipe, progress)
    _check_target_options(targets, recipe, tuple(graph.signature for graph in graphs.values()))
    evaluation = evaluated(bench, model, evaluation_set, recipe, progress)
    model = _without_modules(model)
    plan, simulated = _quantization(bench, model, graphs, calibration_set, recipe, progress)
    again = functools.partial(_loaded_again, recipe, model.digest)
    sources = _build_sources(again, graphs, simulated, plan)
    built_files = {text: built(bench, text, model, sources, recipe, progress) for text in targets}
    compared = comparison(
        model.task, model.trained, recipe.parity.budget, model.labels, model.signature.outputs[0].name
    )
    with bench.timed("parity of the stages"):
        rungs = stage_rungs(graphs, simulated, evaluation, compared, progress)
        rungs += simulated_rungs(built_files, evaluation, compared, progress)
    return Draft(
        model=model,
        recipe=recipe,
        graphs=graphs,
        plan=plan,
        calibration=calibration_set if plan is not None and recipe.plan.file is None else None,
        evaluation=evaluation,
        comparison=compared,
        rungs=rungs,
        built=built_files,
    )


def _check_settings(recipe: Recipe) -> None:
    """Everything that can be wrong with the settings themselves, before any work."""
    check_recipe(recipe)
    if recipe.bench.enabled:
        check_bench(bench_options(recipe))
    ranges = recipe.plan.ranges
    if ranges not in ("search", *NAMED_METHODS) and not re.fullmatch(r"percentile-\d+(\.\d+)?", ranges):
        raise RecipeError(
            f"expected plan.ranges as search, {', '.join(NAMED_METHODS)} or another percentile, found {ranges!r}"
        )
    if recipe.plan.file is not None:
        read_plan(Path(recipe.plan.file))


def _check_target_options(targets: tuple[str, ...], recipe: Recipe, signatures: tuple[Signature, ...]) -> None:
    """What a target's own `check_options` has against its options, before an hour of work and not after it."""
    for text in targets:
        name, precision = parse_target(text)
        options = recipe.options.get(text, {})
        check_input(text, options)
        check = getattr(get_target(name), "check_options", None)
        if check is not None:
            check(precision, own_options(get_target(name), options), signatures)


def _check_model(model: FloatModel, targets: tuple[str, ...]) -> None:
    """What a target's own `check_model` has against the model."""
    for text in targets:
        check = getattr(get_target(parse_target(text)[0]), "check_model", None)
        if check is not None:
            check(model)


def _check_packages() -> None:
    """What every export needs besides its targets, before an hour of work and not after it."""
    for package, (extra, purpose) in NEEDED.items():
        try:
            absent = find_spec(package) is None
        except ModuleNotFoundError:
            absent = True
        if absent:
            raise missing_package(package, extra, purpose)


def _model(recipe: Recipe) -> FloatModel:
    preprocess, size = recipe.preprocess, recipe.trace.image_size
    if preprocess is not None and size is not None:
        preprocess = msgspec.structs.replace(preprocess, size=size)
    options = SourceOptions(task=recipe.task, preprocess=preprocess, labels=recipe.labels, image_size=size)
    return open_source(recipe.model, Path(recipe.weights) if recipe.weights else None, options)


def _loaded_again(recipe: Recipe, digest: str) -> FloatModel:
    """The model of `recipe` once more. Raises StaleError where its file has changed since the export began."""
    model = _model(recipe)
    if model.digest != digest:
        raise StaleError(f"expected {recipe.model} as it was when the export began, found it changed; export again")
    return model


def _with_batch_of(model: FloatModel, recipe: Recipe) -> Recipe:
    """A file that was exported with a fixed batch fixes it for everything that follows."""
    batch = model.signature.inputs[0].shape[0]
    if not isinstance(batch, int):
        if model.parts and recipe.trace.batch is not None:
            raise InputError(
                f"expected a dynamic batch for {model.name}, whose decoder goes on with the texts that have not ended, "
                f"found --batch-size {recipe.trace.batch}; leave it out"
            )
        return recipe
    if recipe.trace.batch not in (None, batch):
        raise InputError(
            f"expected the batch {batch} that {model.name} was exported with, found --batch-size {recipe.trace.batch}; "
            "leave it out, or export the file with a dynamic batch"
        )
    replace = msgspec.structs.replace
    return _with_fixed_batch(replace(recipe, trace=replace(recipe.trace, batch=batch)))


def _check_quantizable(model: FloatModel, targets: tuple[str, ...]) -> None:
    wanted = [text for text in targets if parse_target(text)[1] in (*PLANNED, "int4w")]
    if model.quantized and wanted:
        raise InputError(
            f"expected a float model for {', '.join(wanted)}, found quantization in {model.name} already; hand in the "
            "float model, or build the file as it is with --target T:float32"
        )


def _with_precisions(recipe: Recipe) -> Recipe:
    """Options of a target that is named without a precision are those of the build that it stands for."""
    options = {":".join(parse_target(text)): given for text, given in recipe.options.items()}
    return msgspec.structs.replace(recipe, options=options)


def _targets(recipe: Recipe) -> tuple[tuple[str, ...], dict[str, str]]:
    """What will be built, and for the optional rest why not. An unavailable target that was asked for is an error."""
    wanted: list[str] = []
    unavailable: dict[str, str] = {}
    for text in (*recipe.targets, *recipe.when_available):
        name, precision = parse_target(text)
        canonical = f"{name}:{precision}"
        reason = _why_not_built(name, precision)
        if not reason:
            if canonical not in wanted:
                wanted.append(canonical)
        elif text in recipe.when_available:
            unavailable[canonical] = reason
        else:
            raise UnavailableError(f"expected to build {canonical} on this machine, which it cannot: {reason}")
    return tuple(wanted), unavailable


def _why_not_built(name: str, precision: Precision) -> str:
    target = get_target(name)
    state = target.availability()
    if not state.build:
        return f"run: {state.build_fix}"
    return target.why_not(precision)


def _sets(model: FloatModel, recipe: Recipe, targets: tuple[str, ...]) -> tuple[SampleSet, SampleSet | None]:
    """The evaluation samples, and the calibration samples where something is quantized; disjoint by content."""
    name = check_set(recipe.evaluation.set or model.evaluation, "evaluation", model.name)
    count = recipe.evaluation.samples
    evaluation = _opened(name, model, recipe, None if count is None else Wanted(count))
    if count is not None:
        evaluation = take(evaluation, min(count, len(evaluation)), 0)
    evaluation = _whole_batches(evaluation, recipe.trace.batch)
    if model.trained:
        label_places(evaluation, model.labels)
    quantizes = any(parse_target(text)[1] in PLANNED for text in targets)
    if not quantizes or recipe.plan.file is not None:
        return evaluation, None
    name = check_set(recipe.calibration.set or model.calibration, "calibration", model.name)
    few = Wanted(recipe.calibration.samples, recipe.calibration.seed)
    calibration = _whole_batches(
        calibration_samples(_opened(name, model, recipe, few), recipe.calibration), recipe.trace.batch
    )
    check_disjoint(calibration, evaluation)
    return evaluation, calibration


def _opened(name: str, model: FloatModel, recipe: Recipe, wanted: Wanted | None) -> SampleSet:
    """A set with the model's labels, where a map says how; a set without any has nothing to map."""
    samples = open_set(name, model.task, wanted)
    if recipe.label_map is None or not samples.labels:
        return samples
    path = Path(recipe.label_map)
    return with_label_map(samples, read_label_map(path), path)


def _with_fixed_batch(recipe: Recipe) -> Recipe:
    """A fixed batch is also the batch that calibration and evaluation run."""
    batch = recipe.trace.batch
    if batch is None:
        return recipe
    replace = msgspec.structs.replace
    return replace(
        recipe,
        calibration=replace(recipe.calibration, batch=batch),
        evaluation=replace(recipe.evaluation, batch=batch),
    )


def _whole_batches(samples: SampleSet, batch: int | None) -> SampleSet:
    """A model of fixed batch runs whole batches only; the samples that do not fill one are left out."""
    if batch is None or len(samples) % batch == 0:
        return samples
    if len(samples) < batch:
        raise InputError(f"expected at least {batch} samples for the fixed batch, {samples.name} has {len(samples)}")
    return take(samples, len(samples) // batch * batch, 0)


def _without_modules(model: FloatModel) -> FloatModel:
    """The same without the torch modules: everything after the reference runs on files."""
    replace = msgspec.structs.replace
    return replace(model, module=None, parts=tuple(replace(part, module=None) for part in model.parts))


def _quantization(
    bench: Workbench,
    model: FloatModel,
    graphs: dict[str, OnnxModel],
    samples: SampleSet | None,
    recipe: Recipe,
    progress: Progress,
) -> tuple[QuantPlan | None, dict[str, OnnxModel]]:
    """The plan and the graphs it makes; no graph where nothing is quantized."""
    if recipe.plan.file is not None:
        plan = given_plan(Path(recipe.plan.file), graphs)
    elif samples is not None:
        calibration = calibrated(bench, model, graphs, samples, recipe, progress)
        plan = planned(bench, model, graphs, calibration, recipe, progress)
    else:
        return None, {}
    if not plan.layers:
        raise InputError("expected a plan with at least one int8 layer, found none; drop the int8 targets or edit it")
    return plan, quantized(bench, graphs, plan, progress)


def _build_sources(
    again: Callable[[], FloatModel],
    graphs: dict[str, OnnxModel],
    simulated: dict[str, OnnxModel],
    plan: QuantPlan | None,
) -> dict[str, BuildSource]:
    """What a target builds each part from."""
    plans = {} if plan is None else split(plan, graphs)
    return {
        part: BuildSource(
            float_model=functools.partial(_loaded_part, again, part),
            onnx=graph,
            quantized=simulated.get(part),
            plan=plans.get(part),
            others=tuple(other.signature for name, other in graphs.items() if name != part),
        )
        for part, graph in graphs.items()
    }


def _loaded_part(again: Callable[[], FloatModel], part: str) -> FloatModel:
    return part_models(again())[part]
