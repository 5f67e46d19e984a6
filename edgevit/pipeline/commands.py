"""What can be done with a finished bundle: bench, parity, run, verify. None of them needs torch or onnx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.bundle import GOLDEN, inputs_of, open_bundle, read_golden, verify_files
from edgevit.cluster import Workers
from edgevit.cluster import opened as opened_pool
from edgevit.errors import BundleError, EdgevitError, InputError, MeasureError, UnavailableError
from edgevit.measure import BenchOptions
from edgevit.measure.bench import bench as bench_bundle
from edgevit.parity.metrics import sqnr_db
from edgevit.parity.verdict import sqnr_floor
from edgevit.pipeline.assembly import with_lengths
from edgevit.progress import Progress, Silent
from edgevit.runtime import load
from edgevit.runtime.model import LARGEST_BATCH
from edgevit.runtime.selection import open_session, why_not_here
from edgevit.runtime.translate import Changes
from edgevit.targets.base import OpenOptions
from edgevit.types import BenchReport, ParityReport, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.bundle import Bundle
    from edgevit.types import Arrays, Build

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
        """Nothing is wrong; also where no build could be executed here (see `executed`)."""
        return not self.problems and all(check.verdict != "failed" for check in self.builds)

    @property
    def executed(self) -> bool:
        """Whether this machine could execute at least one build."""
        return any(check.verdict != "not executed" for check in self.builds)


def bench(bundle: str | Path, options: BenchOptions | None = None, progress: Progress | None = None) -> BenchReport:
    """Latency, throughput, cold start and memory of the bundle's builds, side by side.

    Raises BundleError for a damaged bundle, InputError for options or targets that make no sense, and where nothing
    could be measured UnavailableError (no engine of these builds here) or MeasureError.
    """
    progress, options = progress or Silent(), options or BenchOptions()
    opened = open_bundle(bundle, check="hashes")
    with progress.task("measuring", None) as advance:
        options = with_lengths(options, opened.manifest)
        report = bench_bundle(opened.root, options, lambda done, total, what: advance(done, what, total))
    if not report.entries:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.not_executed.items())
        here = [
            build for build in opened.manifest.builds if build.name in report.not_executed and not why_not_here(build)
        ]
        kind = MeasureError if here else UnavailableError
        raise kind(f"expected a build that can be measured on this machine, found none ({reasons})")
    return report


def read_bench(path: str | Path) -> BenchReport:
    """An earlier measurement: what `edgevit bench --json` printed, or the report.json of a bundle.

    Raises InputError for anything else.
    """
    try:
        found = msgspec.json.decode(Path(path).read_bytes())
        if isinstance(found, dict):
            # With --compare the report is one of two keys, and a bundle's report calls it bench.
            found = found.get("report") or found.get("bench") or found
        return msgspec.convert(found, BenchReport)
    except OSError as error:
        raise InputError(f"expected an earlier report at {path}, which cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected the --json output of an earlier edgevit bench, or a bundle's report.json, at {path}; "
            f"found: {' '.join(str(error).split())}"
        ) from error


def run(
    bundle: str | Path,
    items: Sequence[Any],
    target: str | None = None,
    top: int = 3,
    changes: Changes | None = None,
    rebuild: bool = False,
) -> list[Any]:
    """The task's result for every item (files, arrays, PIL images, texts), by the best build that runs here.

    `changes` are for models that write, `rebuild` for engines of another card. Unlike `edgevit.load`, which an
    application calls at every start, this reads every file of the bundle and compares it with its checksum. A build of
    fixed batch n takes n items at a time.
    """
    open_bundle(bundle, check="hashes")
    how = msgspec.structs.asdict(changes or Changes())
    with load(bundle, target, rebuild=rebuild) as model:
        first = model.signature.inputs[0].shape[0]
        step = first if isinstance(first, int) else LARGEST_BATCH
        return [
            result
            for start in range(0, len(items), step)
            for result in model.predict(list(items[start : start + step]), top=top, **how)
        ]


def verify(bundle: str | Path) -> Verification:
    """Checksums, then the golden inputs through every build that runs here.

    A build passes when its outputs are as close to the float reference's as where it was made, less 3 dB; one that
    was out of its parity budget there fails here too. Raises BundleError or InputError for what is no bundle at all.
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
            found = session.run(inputs_of(build, inputs))
        finally:
            session.close()
    except EdgevitError as error:
        return BuildCheck(build=build.name, verdict="failed", expected_db=expected, reason=str(error))
    name = build.signature.outputs[0].name
    if name not in outputs or outputs[name].shape != found[name].shape:
        raise BundleError(
            f"expected golden outputs {name} of shape {found[name].shape} in {bundle.root}; export it again"
        )
    if not np.isfinite(found[name]).all():
        return BuildCheck(build=build.name, verdict="failed", expected_db=expected, reason="its outputs are not finite")
    closeness = float(sqnr_db(outputs[name], found[name]))
    verdict, reason = "passed", ""
    if closeness < expected:
        verdict = "failed"
        reason = f"expected at least {expected:.1f} dB on the golden inputs, found {closeness:.1f} dB"
    elif build.verdict == "failed":
        verdict, reason = "failed", f"out of its parity budget where it was made: {build.reason}"
    return BuildCheck(build=build.name, verdict=verdict, sqnr_db=closeness, expected_db=expected, reason=reason)


def parity(
    bundle: str | Path,
    evaluation: str | None = None,
    target: str | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> ParityReport:
    """Compares the bundle's builds with the float reference on `evaluation`, or on the set they were judged on.

    The reference's outputs for that set travel in the bundle. For another set, the bundle's own float32 build stands
    in for it: it has been compared with torch, and the report's set says what was used. With `workers` the samples are
    shared out to processes or to a cluster; the report is the same. Raises BundleError, InputError, SetError, and
    UnavailableError for processes or a cluster that cannot be had.
    """
    from edgevit.pipeline.proof import build_rungs, comparison
    from edgevit.pipeline.shares import Shared, shared_rungs
    from edgevit.pipeline.stand_in import bundle_evaluation, bundle_samples

    progress, workers = progress or Silent(), workers or Workers()
    opened = open_bundle(bundle, check="hashes")
    manifest = opened.manifest
    output = manifest.signature.outputs[0].name
    options = comparison(manifest.task, manifest.trained, manifest.budget_points, manifest.labels, output)
    builds = opened.builds(target)
    if workers.alone:
        found = bundle_evaluation(opened, evaluation, progress)
        samples, rungs = found.samples, build_rungs(opened, found, options, progress, builds)
    else:
        samples = bundle_samples(opened, evaluation)
        with opened_pool(workers, progress) as pool:
            rungs = shared_rungs(opened, Shared(samples, evaluation, builds, options), pool, progress)
    return ParityReport(
        model=manifest.model,
        model_digest=manifest.source_digest,
        set=samples.name,
        set_digest=samples.digest,
        budget_points=manifest.budget_points,
        trained=manifest.trained,
        rungs=rungs,
    )
