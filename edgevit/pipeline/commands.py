"""What can be done with a finished bundle: bench, parity, run, verify. None of them needs torch or onnx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.bundle import GOLDEN, open_bundle, read_golden, verify_files
from edgevit.errors import BundleError, EdgevitError, InputError, SetError
from edgevit.measure import BenchOptions
from edgevit.measure.bench import bench as bench_bundle
from edgevit.parity.metrics import sqnr_db
from edgevit.parity.verdict import sqnr_floor
from edgevit.progress import Progress, Silent
from edgevit.runtime import load
from edgevit.runtime.selection import open_session, runnable, why_not_here
from edgevit.sets import open_set
from edgevit.targets.base import OpenOptions
from edgevit.types import ParityReport, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.bundle import Bundle
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, BenchReport, Build

REFERENCE = "reference.npz"
GOLDEN_SLACK_DB = 3.0
"""How much further from the reference a build may be here than where it was made: other kernels, other rounding."""


class BuildCheck(Value, frozen=True, kw_only=True):
    """The self-test of one build on this machine."""

    build: str
    verdict: str
    """passed, failed or not executed."""
    sqnr_db: float | None = None
    expected_db: float | None = None
    reason: str = ""


class Verification(Value, frozen=True, kw_only=True):
    bundle: str
    problems: tuple[str, ...]
    """Files that differ from the manifest."""
    builds: tuple[BuildCheck, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.problems and all(check.verdict != "failed" for check in self.builds)


def bench(bundle: str | Path, options: BenchOptions | None = None, progress: Progress | None = None) -> BenchReport:
    """Latency, throughput, cold start and memory of the bundle's builds, side by side."""
    progress = progress or Silent()
    open_bundle(bundle)
    with progress.task("measuring", None) as advance:
        return bench_bundle(Path(bundle), options or BenchOptions(), lambda done, total, what: advance(done, what))


def run(bundle: str | Path, items: Sequence[Any], target: str | None = None, top: int = 5) -> list[Any]:
    """The task's result for every item (files, arrays, PIL images), by the best build that runs here."""
    with load(bundle, target) as model:
        return [model.predict(item, top=top) for item in items]


def verify(bundle: str | Path) -> Verification:
    """Checksums, then the golden inputs through every build that runs here.

    A build passes when its outputs are as close to the float reference's as where it was made, less 3 dB. Raises
    BundleError or InputError for what is no bundle at all.
    """
    opened = open_bundle(bundle, check="manifest")
    problems = tuple(problem.message for problem in verify_files(opened))
    if problems:
        return Verification(bundle=str(bundle), problems=problems)
    inputs, outputs = read_golden(opened.root / GOLDEN)
    checks = tuple(_check_build(opened, build, inputs, outputs) for build in opened.manifest.builds)
    return Verification(bundle=str(bundle), problems=(), builds=checks)


def _check_build(bundle: Bundle, build: Build, inputs: Arrays, outputs: Arrays) -> BuildCheck:
    reason = why_not_here(build)
    if reason:
        return BuildCheck(build=build.name, verdict="not executed", reason=reason)
    expected = sqnr_floor(build.precision)
    if build.golden_sqnr_db is not None:
        # Float builds agree to rounding on every machine; what they owe is the floor, not the last dB.
        expected = min(build.golden_sqnr_db - GOLDEN_SLACK_DB, sqnr_floor("float32"))
    try:
        session = open_session(bundle, build, OpenOptions())
        try:
            found = session.run(inputs)
        finally:
            session.close()
    except EdgevitError as error:
        return BuildCheck(build=build.name, verdict="failed", expected_db=expected, reason=str(error))
    name = build.signature.outputs[0].name
    if not np.isfinite(found[name]).all():
        return BuildCheck(build=build.name, verdict="failed", expected_db=expected, reason="its outputs are not finite")
    closeness = float(sqnr_db(outputs[name], found[name]))
    verdict = "passed" if closeness >= expected else "failed"
    reason = "" if verdict == "passed" else f"expected at least {expected:.1f} dB on the golden inputs, found {closeness:.1f} dB"
    return BuildCheck(build=build.name, verdict=verdict, sqnr_db=closeness, expected_db=expected, reason=reason)


def parity(
    bundle: str | Path, evaluation: str | None = None, target: str | None = None, progress: Progress | None = None
) -> ParityReport:
    """Compares the bundle's builds with the float reference on `evaluation`, or on the set they were judged on.

    The reference's outputs for that set travel in the bundle. For another set, the bundle's own float32 build stands
    in for it: it has been compared with torch, and the report's set says what was used.
    """
    from edgevit.pipeline.proof import build_rungs, comparison

    progress = progress or Silent()
    opened = open_bundle(bundle)
    manifest = opened.manifest
    found = _evaluation(opened, evaluation, progress)
    output = manifest.signature.outputs[0].name
    options = comparison(manifest.task, manifest.trained, manifest.budget_points, manifest.labels, output)
    rungs = build_rungs(opened, found, options, progress, opened.builds(target))
    return ParityReport(
        model=manifest.model,
        model_digest=manifest.source_digest,
        set=found.samples.name,
        set_digest=found.samples.digest,
        budget_points=manifest.budget_points,
        trained=manifest.trained,
        rungs=rungs,
    )


def _evaluation(bundle: Bundle, name: str | None, progress: Progress) -> Any:
    from edgevit.pipeline.proof import Evaluation, without_labels

    manifest = bundle.manifest
    facts = manifest.evaluation
    if name is None and facts is None:
        raise InputError(f"expected --evaluation SET, the bundle {bundle.root} does not say what it was judged on")
    wanted = name or (facts.set if facts else "")
    try:
        samples = open_set(wanted)
    except SetError as error:
        if name is not None:
            raise
        raise SetError(f"the set the bundle was judged on is not here ({error}); give --evaluation SET") from error
    fixed = manifest.signature.inputs[0].shape[0]
    size = fixed if isinstance(fixed, int) else 16
    if facts is not None and len(samples) != facts.samples and name is None:
        from edgevit.sets import take

        samples = take(samples, min(facts.samples, len(samples)), 0)
    known = facts is not None and samples.digest == facts.set_digest and (bundle.root / REFERENCE).exists()
    evaluation = Evaluation(
        samples=samples if manifest.trained else without_labels(samples),
        preprocess=manifest.preprocess,
        labels=manifest.labels,
        batch=size,
        reference=_stored(bundle) if known else {},
    )
    if known:
        return evaluation
    return msgspec.structs.replace(evaluation, reference=_float_build(bundle, evaluation, samples, progress))


def _stored(bundle: Bundle) -> Arrays:
    with np.load(bundle.root / REFERENCE, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _float_build(bundle: Bundle, evaluation: Any, samples: SampleSet, progress: Progress) -> Arrays:
    """The outputs of the bundle's own float32 build."""
    floats = [build for build in runnable(bundle) if build.precision == "float32" and build.verdict != "failed"]
    if not floats:
        raise BundleError(
            f"expected a float32 build in {bundle.root} to stand in for the reference on another set, found none; "
            "export with openvino:float32 or use the set it was judged on"
        )
    session = open_session(bundle, floats[0], OpenOptions())
    collected: dict[str, list[Any]] = {spec.name: [] for spec in floats[0].signature.outputs}
    try:
        with progress.task(f"reference by {floats[0].name}", len(samples)) as advance:
            done = 0
            for batch in evaluation.batches():
                for key, value in session.run(batch.inputs).items():
                    collected[key].append(value)
                done += len(batch)
                advance(done)
    finally:
        session.close()
    return {key: np.concatenate(parts) for key, parts in collected.items()}
