"""From built files to a bundle: executed, judged, measured, reported, and listed in the manifest."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec
import numpy as np

from edgevit import __version__
from edgevit.bundle import (
    DRAFT,
    GOLDEN,
    Bundle,
    CalibrationFacts,
    EvaluationFacts,
    Manifest,
    describe_directory,
    describe_file,
    inputs_of,
    open_bundle,
    write_golden,
    write_manifest,
)
from edgevit.errors import InputError
from edgevit.files import check_relative
from edgevit.measure import BenchOptions, describe_machine
from edgevit.measure.bench import bench_builds, subjects_of
from edgevit.parity.ladder import out_of_budget
from edgevit.parity.layers import first_divergent
from edgevit.parity.metrics import sqnr_db
from edgevit.pipeline.by_layer import by_layer
from edgevit.pipeline.compiled import compiled_execution
from edgevit.pipeline.evaluation import LOGITS
from edgevit.pipeline.golden import golden_samples
from edgevit.pipeline.parts import WHOLE
from edgevit.pipeline.pixels import pixel_signature, wants_pixels
from edgevit.pipeline.proof import build_rungs
from edgevit.pipeline.stages import requires_any
from edgevit.quantize.plan_file import write_plan
from edgevit.report import CalibrationFacts as ReportedCalibration
from edgevit.report import ReportData, summarize_plan, write_report
from edgevit.runtime.selection import open_session, why_not_here
from edgevit.sets import coverage, read_label_map
from edgevit.targets import get_target, on_cpu, parse_target
from edgevit.targets.base import OpenOptions
from edgevit.types import Build, BuildPart, Engine, LayerParity, ParityReport, Rung, TextPreprocess

if TYPE_CHECKING:
    from edgevit.parity.compare import ComparisonOptions
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.pipeline.workbench import Workbench
    from edgevit.progress import Progress
    from edgevit.recipe import Recipe
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, BenchReport, FloatModel, OnnxModel, QuantPlan, Signature

OPEN_DRAFT = "edgevit.runtime.selection:open_draft"
"""What a measuring process opens a build with before the bundle has its manifest."""
REFERENCE = "reference.npz"
REFERENCE_LIMIT = 16 << 20
"""Bytes of reference outputs a bundle carries so that parity can be repeated without torch."""
TEXT_LENGTH = 16
"""Tokens of a text that is measured, where a model calls its lengths by names of its own."""
TEXT_LENGTHS = {"source_length", "target_length"}
"""Those that `BenchOptions` speaks of."""
PICTURE_SIZE = 160
"""Longest side of the pictures of worst samples in the report, pixels."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an export knows before the engines have run."""

    model: FloatModel
    recipe: Recipe
    graphs: dict[str, OnnxModel]
    """The float ONNX graphs, by part."""
    plan: QuantPlan | None
    calibration: SampleSet | None
    evaluation: Evaluation
    comparison: ComparisonOptions
    rungs: tuple[Rung, ...]
    built: dict[str, Path]
    command: str = ""
    unavailable: dict[str, str] = {}
    """Targets that were optional and cannot be built here, with why."""


class Assembled(TypedDict):
    manifest: Manifest
    parity: ParityReport
    bench: BenchReport | None
    failed: tuple[str, ...]


def assemble(draft: Draft, stage: Path, bench: Workbench, progress: Progress) -> Assembled:
    """Fills the empty directory `stage` with a complete bundle."""
    for text, place in draft.built.items():
        shutil.copytree(place / "files", stage / text.replace(":", "-"))
    if draft.plan is not None:
        write_plan(draft.plan, stage / "plan.toml")
    golden = _write_evidence(draft, stage)
    manifest = _manifest(draft, stage)
    write_manifest(stage, manifest, DRAFT)
    bundle = open_bundle(stage, name=DRAFT)
    with bench.timed("parity of the builds"):
        rungs = (*draft.rungs, *build_rungs(bundle, draft.evaluation, draft.comparison, progress))
    with bench.timed("parity of the layers"):
        layers = by_layer(draft, progress)
    parity = _parity_report(draft, rungs, layers)
    measured = _measured(draft, bundle, bench, progress)
    builds = tuple(_finished(bundle, build, rungs, measured, golden) for build in manifest.builds)
    manifest = msgspec.structs.replace(manifest, builds=builds)
    with bench.timed("report"), progress.task("writing the report", None):
        _report(draft, manifest, parity, measured, bench, stage)
    described = (*manifest.files, *(describe_file(stage, stage / name) for name in _REPORTS))
    manifest = msgspec.structs.replace(manifest, files=described)
    (stage / DRAFT).unlink()
    write_manifest(stage, manifest)
    return Assembled(manifest=manifest, parity=parity, bench=measured, failed=out_of_budget(parity))


_REPORTS = ("report.html", "report.json", "report.md")


def _write_evidence(draft: Draft, stage: Path) -> tuple[Arrays, Arrays]:
    """The model's own files, golden inputs with the reference's outputs, and all its outputs if they are small."""
    for name, path in draft.model.files.items():
        check_relative(name, draft.model.name)
        shutil.copyfile(path, stage / name)
    evaluation = draft.evaluation
    count = min(draft.recipe.trace.batch or draft.recipe.parity.golden, len(evaluation.samples))
    pixels = any(wants_pixels(draft.recipe.options.get(text, {})) for text in draft.built)
    inputs, outputs = golden_samples(evaluation, count, pixels=pixels)
    write_golden(stage / GOLDEN, inputs, outputs)
    kept = dict(evaluation.reference)
    if sum(values.nbytes for values in kept.values()) > REFERENCE_LIMIT and evaluation.generation is not None:
        # What was written says what is right; the logits, for closeness alone, a float32 build can give again.
        kept.pop(LOGITS)
    if sum(values.nbytes for values in kept.values()) <= REFERENCE_LIMIT:
        np.savez_compressed(stage / REFERENCE, allow_pickle=False, **kept)
    return inputs, outputs


def _manifest(draft: Draft, stage: Path) -> Manifest:
    machine = describe_machine()
    model, evaluation, calibration = draft.model, draft.evaluation, draft.calibration
    facts = None
    if calibration is not None and draft.plan is not None:
        seen = coverage(calibration)
        facts = CalibrationFacts(
            set=calibration.name,
            set_digest=calibration.digest,
            samples=len(calibration),
            seed=draft.plan.seed,
            statistics_digest=draft.plan.statistics_digest,
            coverage=f"{len(seen)} of {len(model.labels)} classes" if seen else _kinds(calibration),
        )
    files = tuple(
        describe_file(stage, stage / name)
        for name in ("plan.toml", GOLDEN, REFERENCE, *model.files)
        if (stage / name).exists()
    )
    return Manifest(
        edgevit=__version__,
        model=model.name,
        source_digest=model.digest,
        signature=_signature(draft),
        task=model.task,
        preprocess=model.preprocess,
        generation=model.generation,
        labels=model.labels,
        trained=model.trained,
        toolchain=machine.packages,
        machine=machine,
        builds=tuple(_build(draft, text, stage, machine_of=machine) for text in draft.built),
        files=files,
        calibration=facts,
        evaluation=EvaluationFacts(
            set=draft.recipe.evaluation.set or model.evaluation or evaluation.samples.name,
            set_digest=evaluation.samples.digest,
            samples=len(evaluation.samples),
            label_map=read_label_map(Path(draft.recipe.label_map)) if draft.recipe.label_map else {},
        ),
        budget_points=draft.recipe.parity.budget,
    )


def _kinds(samples: SampleSet) -> str:
    """How well texts without classes are spread, where their file says what kinds there are."""
    kinds = {sample.stratum for sample in samples.samples if sample.stratum}
    return f"{len(kinds)} kinds of texts" if kinds else "unlabelled"


def _signature(draft: Draft) -> Signature:
    """The graph's own, with the batch it was traced with; of a model in parts that of the whole."""
    return draft.model.signature if draft.model.parts else draft.graphs[WHOLE].signature


def _build(draft: Draft, text: str, stage: Path, machine_of: object) -> Build:
    name, precision = parse_target(text)
    target = get_target(name)
    options = msgspec.json.decode((draft.built[text] / "options.json").read_bytes(), type=dict[str, str])
    signature = _signature(draft)
    return Build(
        target=name,
        precision=precision,
        files=describe_directory(stage, stage / f"{name}-{precision}"),
        signature=pixel_signature(signature) if wants_pixels(options) else signature,
        parts=tuple(BuildPart(name=part, signature=draft.graphs[part].signature) for part in draft.graphs if part),
        engine=Engine(name=name, version=target.availability().version),
        machine=machine_of,  # type: ignore[arg-type]
        options=options,
        requires_any=requires_any(precision, draft.plan) if on_cpu(name) else (),
    )


def _parity_report(draft: Draft, rungs: tuple[Rung, ...], layers: tuple[LayerParity, ...]) -> ParityReport:
    missing = tuple(
        Rung(
            name=text.replace(":", "-"),
            target=text.partition(":")[0],
            precision=text.partition(":")[2],
            samples=0,
            labelled=False,
            verdict="not executed",
            reason=reason,
        )
        for text, reason in draft.unavailable.items()
    )
    return ParityReport(
        model=draft.model.name,
        model_digest=draft.model.digest,
        reference=draft.model.reference,
        set=draft.evaluation.samples.name,
        set_digest=draft.evaluation.samples.digest,
        budget_points=draft.recipe.parity.budget,
        trained=draft.model.trained,
        rungs=(*rungs, *missing),
        layers=layers,
        first_divergent_layer=first_divergent(layers),
    )


def bench_options(recipe: Recipe) -> BenchOptions:
    """What the recipe asks to be measured; a fixed batch is the only one that can be."""
    settings = recipe.bench
    return BenchOptions(
        batch_sizes=settings.batch_sizes if recipe.trace.batch is None else (recipe.trace.batch,),
        threads=settings.threads,
        seconds=settings.seconds,
        rounds=settings.rounds,
        cold_starts=settings.cold_starts,
    )


def with_lengths(options: BenchOptions, manifest: Manifest) -> BenchOptions:
    """The options with a size for each dynamic one of a model that has none yet and is not named as a text's are.

    Raises InputError for the size of images where no build takes any.
    """
    if options.image_size is not None and not any(build.takes_pixels for build in manifest.builds):
        raise InputError(
            "expected builds that take images of any size for image_size, found none; export with --input pixels"
        )
    named = {dim for spec in manifest.signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)}
    if isinstance(manifest.preprocess, TextPreprocess):
        named -= TEXT_LENGTHS
    return msgspec.structs.replace(options, dimensions=dict.fromkeys(sorted(named), TEXT_LENGTH) | options.dimensions)


def _measured(draft: Draft, bundle: Bundle, bench: Workbench, progress: Progress) -> BenchReport | None:
    if not draft.recipe.bench.enabled:
        return None
    subjects, options = subjects_of(bundle, OPEN_DRAFT), with_lengths(bench_options(draft.recipe), bundle.manifest)
    with bench.timed("measuring"), progress.task("measuring", None) as advance:
        return bench_builds(draft.model.name, subjects, options, lambda done, total, what: advance(done, what, total))


def _finished(
    bundle: Bundle,
    build: Build,
    rungs: tuple[Rung, ...],
    measured: BenchReport | None,
    golden: tuple[Arrays, Arrays],
) -> Build:
    """The build with what running it has shown."""
    rung = next((rung for rung in rungs if (rung.target, rung.precision) == (build.target, build.precision)), None)
    entries = [] if measured is None else [entry for entry in measured.entries if entry.name == build.name]
    entry = min(entries, key=lambda entry: (entry.batch_size, -entry.threads), default=None)
    execution = closeness = None
    if not why_not_here(build):
        session = open_session(bundle, build, OpenOptions())
        try:
            execution = session.execution()
            inputs, outputs = golden
            found = session.run(inputs_of(build, inputs))
            name = build.signature.outputs[0].name
            closeness = float(sqnr_db(outputs[name], found[name])) if np.isfinite(found[name]).all() else None
        finally:
            session.close()
    else:
        execution = compiled_execution(build, bundle.directory(build))
    return msgspec.structs.replace(
        build,
        execution=execution,
        verdict=rung.verdict if rung else "not executed",
        reason=rung.reason if rung else "",
        golden_sqnr_db=closeness,
        latency_ms=entry.latency.p50 if entry else None,
        worth=entry.verdict if entry else "",
    )


def _report(
    draft: Draft, manifest: Manifest, parity: ParityReport, measured: BenchReport | None, bench: Workbench, stage: Path
) -> None:
    facts = None
    if draft.calibration is not None and draft.plan is not None:
        labelled = bool(draft.calibration.labels)
        facts = ReportedCalibration(
            set=draft.calibration.name,
            samples=len(draft.calibration),
            seed=draft.plan.seed,
            classes_seen=len(coverage(draft.calibration)) if labelled else None,
            classes=len(draft.model.labels) if labelled else None,
            disjoint=True,
        )
    warnings = [warning for build in manifest.builds if build.execution for warning in build.execution.warnings]
    data = ReportData(
        model=draft.model.name,
        digest=draft.model.digest,
        task=draft.model.task,
        trained=draft.model.trained,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=manifest.machine,
        builds=manifest.builds,
        command=draft.command,
        parity=parity,
        bench=measured,
        plan=None if draft.plan is None else summarize_plan(draft.plan),
        calibration=facts,
        stages=tuple(bench.costs),
        warnings=tuple(dict.fromkeys(warnings)),
    )
    write_report(data, stage, _pictures(draft.evaluation, parity))


def _pictures(evaluation: Evaluation, parity: ParityReport) -> dict[str, bytes]:
    """The worst samples of all builds as small PNGs, by sample name."""
    from edgevit.preprocess import load_image

    if evaluation.samples.kind != "image":
        return {}
    wanted = {worst.name for rung in parity.rungs for worst in rung.worst}
    pictures: dict[str, bytes] = {}
    for sample in evaluation.samples.samples:
        if sample.name in wanted:
            image = load_image(sample.image())
            image.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            pictures[sample.name] = buffer.getvalue()
    return pictures
