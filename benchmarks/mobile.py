"""What phones and browsers get: every mobile target and precision, against its own float32 and its vendor's recipe.

ViTs of three sizes, untrained, and the small trained translator. Bundles are made by the export that the command line
calls; a peer is made from the same model, calibrated on the same photographs and opened by the session that opens ours.
All builds of a model are measured in interleaved rounds of one run, each in a process of its own, batch 1.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coreml_weights
import mobile_tables
import msgspec
import vendors
from bundles import export_texts, recipe_for
from models import CALIBRATION_PHOTOS, ROOT
from processes import StepError, run_step
from record import Findings, Options

from edgevit.measure import BenchOptions, Subject, bench_builds
from edgevit.measure.bench import texts_of
from edgevit.report.data import read_report
from edgevit.targets import get_target
from edgevit.zoo import find_entry
from edgevit.zoo.catalog import sequence_names

if TYPE_CHECKING:
    from edgevit.types import BenchEntry

IMAGES = ("vit-tiny-224", "vit-small-224", "vit-base-224")
TEXTS = "phrases-transformer"
TARGETS = ("ort-mobile", "executorch", "litert", "coreml", "web")
ONE_BATCH = {"executorch": {"batch": "1"}, "litert": {"batches": "1"}}
"""Vendors' recipes make programs of one batch, so ours are made for it too; a phone translates one phrase."""
SMOKE_BUILDS = (
    "ort-mobile:float32",
    "ort-mobile:int8",
    "executorch:float32",
    "executorch:int8",
    "litert:float32",
    "litert:int8d",
)
SMOKE_BUILDS += ("coreml:float16", "coreml:int8w")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    calibration: int
    evaluation: int | None
    seconds: float
    rounds: int
    loads: int
    """How often each build is opened for the time that takes."""
    tokens: int | None = None


FULL = Settings(calibration=32, evaluation=None, seconds=6.0, rounds=10, loads=5)
QUICK = Settings(calibration=8, evaluation=4, seconds=2.0, rounds=4, loads=2)
SMOKE = Settings(calibration=4, evaluation=4, seconds=0.1, rounds=1, loads=1, tokens=4)


def main(options: Options) -> Findings:
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    names = options.models or (("digits-vit", TEXTS) if options.smoke else (*IMAGES, TEXTS))
    targets, missing = _targets(options)
    # Making is lowering, single-threaded Python: two models at a time. Nothing is measured meanwhile.
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda name: _made(name, targets, settings, options), names))
    raw = {name: _measured(name, bundle, settings, options) for name, bundle in zip(names, made, strict=True)}
    warnings = [*missing, *(warning for found in raw.values() for warning in found["warnings"])]
    return Findings(
        figures=tuple(one for name, found in raw.items() for one in mobile_tables.figures(name, found)),
        tables=tuple(one for name, found in raw.items() for one in mobile_tables.tables(name, found)),
        raw=raw,
        warnings=tuple(dict.fromkeys(warnings)),
    )


# ------------------------------------------------------------------------------------------------- making


def _targets(options: Options) -> tuple[tuple[str, ...], list[str]]:
    """The builds that can be made here, and what is said of the others."""
    able = {name: get_target(name).availability() for name in TARGETS}
    missing = [f"{name} was not built: {state.build_fix}" for name, state in able.items() if not state.build]
    if options.quantizer is None:
        missing.append("ai-edge-quantizer was not measured: --quantizer names no Python of its")
    every = [f"{name}:{one}" for name, state in able.items() if state.build for one in get_target(name).precisions]
    return tuple(one for one in every if not options.smoke or one in SMOKE_BUILDS), missing


def _made(name: str, targets: tuple[str, ...], settings: Settings, options: Options) -> Path:
    """The bundle of a model, peers' builds beside it; an earlier run's where there is one."""
    place = (options.bundles or options.work) / "mobile"
    if _reads_texts(name):
        # A translator takes a minute to lower or to convert; that it can be, the tests of the command line show.
        left_out = ("executorch", "coreml") if options.smoke else ()
        engines = [engine for engine in mobile_tables.TEXT_TARGETS if engine not in left_out]
        able = tuple(one for one in targets if one.partition(":")[0] in engines)
        return export_texts(name, msgspec.structs.replace(options, bundles=place), able, _of_one_batch(able))
    bundle = place / name
    if not bundle.exists():
        options.say(f"{name}: exporting")
        recipe = recipe_for(name, targets, samples=settings.calibration, smoke=options.smoke)
        recipe = msgspec.structs.replace(recipe, options=_of_one_batch(targets))
        run_step("bundles:export_bundle", {"recipe": msgspec.to_builtins(recipe), "out": str(bundle)})
    peers = vendors.peers_of(bundle)
    if not (peers / "made").exists():
        _make_peers(name, bundle, settings, options)
        (peers / "made").touch()
    return bundle


def _of_one_batch(targets: tuple[str, ...]) -> dict[str, dict[str, str]]:
    return {one: ONE_BATCH[one.partition(":")[0]] for one in targets if one.partition(":")[0] in ONE_BATCH}


def _make_peers(name: str, bundle: Path, settings: Settings, options: Options) -> None:
    out = str(vendors.fresh(vendors.peers_of(bundle)))
    where = {"bundle": str(bundle), "out": out}
    if (bundle / "executorch-int8").exists():
        options.say(f"{name}: torchao")
        calibration = find_entry(name).calibration or CALIBRATION_PHOTOS
        given = {"model": name, "calibration": calibration, "samples": settings.calibration}
        run_step("vendors:torchao_static", {**given, **where})
        run_step("vendors:torchao_groups", {"model": name, **where})
    if (bundle / "coreml-float16").exists():
        options.say(f"{name}: coremltools")
        run_step("coreml_weights:linear_quantized", where)
    if (bundle / "litert-float32").exists() and options.quantizer is not None:
        options.say(f"{name}: ai-edge-quantizer")
        source = bundle / "litert-float32" / "model.tflite"
        written = Path(out) / vendors.EDGE_QUANTIZER / "files" / "model.tflite"
        written.parent.mkdir(parents=True)
        command = [options.quantizer, ROOT / "benchmarks" / "edge_quantizer.py", source, written]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.strip().splitlines()[-1:])
            raise StepError(f"edge_quantizer.py ended with status {done.returncode}: {said}")
        (Path(out) / "versions.json").write_text(done.stdout.strip().splitlines()[-1])
        run_step("vendors:describe_edge_quantizer", where)


# ---------------------------------------------------------------------------------------------- measuring


def _measured(name: str, bundle: Path, settings: Settings, options: Options) -> dict[str, Any]:
    """Everything known of one model's builds, as JSON values."""
    texts = _reads_texts(name)
    present = [folder.name for folder in sorted(bundle.iterdir()) if folder.is_dir()]
    peers = [] if texts else [one for one in vendors.PEERS if (vendors.peers_of(bundle) / one).exists()]
    runnable = [one for one in present if not one.startswith("coreml") and _runs(one)] + peers
    report = read_report(bundle / "report.json").parity
    found: dict[str, Any] = {
        "rungs": {rung.name: msgspec.to_builtins(rung) for rung in (report.rungs if report else ())},
        "sizes": {one: vendors.size_of(bundle, one) for one in (*present, *peers)},
        "delegated": {one: share for one in (*present, *peers) if (share := _delegated(bundle, one)) is not None},
        "versions": _versions(bundle),
    }
    if not texts:
        options.say(f"{name}: held-out images")
        asked = {"model": name, "bundle": str(bundle), "names": runnable, "samples": settings.evaluation}
        found["closeness"] = run_step("vendors:closeness", asked).result
        found["weights"] = _weights(name, bundle, options)
    found["loading_ms"] = {}
    for one in runnable:
        options.say(f"{name}: opening {one}")
        asked = {"bundle": str(bundle), "name": one, "repeats": settings.loads}
        found["loading_ms"][one] = run_step("vendors:loading", asked).result
    options.say(f"{name}: latency")
    entries, warnings = _latency(name, bundle, runnable, settings)
    found["entries"] = [mobile_tables.entry_of(entry) for entry in entries]
    found["ratios"] = mobile_tables.ratios(entries)
    found["warnings"] = warnings
    return found


def _reads_texts(model: str) -> bool:
    return model in sequence_names()


def _runs(build: str) -> bool:
    return get_target(build.rpartition("-")[0]).availability().run


def _delegated(bundle: Path, build: str) -> dict[str, Any] | None:
    """The shares of multiply-accumulates and operators that a delegate takes; None for an engine without one."""
    from edgevit.targets.delegation import FILE, read_delegation

    folder = vendors.peers_of(bundle) / build / "files" if build in vendors.PEERS else bundle / build
    given = [read_delegation(path.parent) for path in sorted(folder.rglob(FILE))]  # one for each part of a model
    if not given:
        return None
    layers = [layer for one in given for layer in one.layers]
    operators = sum(one.operators_delegated for one in given) / sum(one.operators for one in given)
    macs = sum(one.macs_delegated for one in given) / sum(one.macs for one in given)
    shares = {"macs": macs, "operators": operators, "partitions": sum(one.partitions for one in given)}
    return {**shares, "int8": sum(layer.executed == "int8" for layer in layers), "layers": len(layers)}


def _weights(name: str, bundle: Path, options: Options) -> dict[str, Any]:
    """By package of Core ML: how close its weights are to the float ones."""
    from edgevit.targets.coreml import PACKAGE

    peer = vendors.peers_of(bundle) / coreml_weights.PEER / "files" / PACKAGE
    packages = {one: bundle / one / PACKAGE for one in coreml_weights.OURS} | {coreml_weights.PEER: peer}
    present = {one: str(path) for one, path in packages.items() if path.exists()}
    if not present:
        return {}
    options.say(f"{name}: the weights of Core ML's packages")
    found = run_step("coreml_weights:weight_losses", {"model": name, "bundle": str(bundle), "packages": present})
    sizes = {
        one: sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        for one, path in present.items()
    }
    return {one: {**value, "size": sizes[one]} for one, value in found.result.items()}


def _versions(bundle: Path) -> dict[str, str]:
    path = vendors.peers_of(bundle) / "versions.json"
    versions: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return versions


def _latency(
    name: str, bundle: Path, builds: list[str], settings: Settings
) -> tuple[tuple[BenchEntry, ...], tuple[str, ...]]:
    from edgevit.bundle import open_bundle

    texts = texts_of(open_bundle(bundle, check="manifest"))
    subjects = [
        Subject(
            target=build.rpartition("-")[0],
            precision=build.rpartition("-")[2],
            bundle=str(bundle),
            size_bytes=vendors.size_of(bundle, build),
            opener="vendors:open_any",
            texts=texts,
        )
        for build in builds
    ]
    how = BenchOptions(
        seconds=settings.seconds,
        rounds=settings.rounds,
        streams=1,
        cold_starts=0,
        warmup_seconds=settings.seconds / 10,
        tokens=settings.tokens if texts else None,
        beams=(1,) if texts else (),
    )
    report = bench_builds(name, subjects, how)
    if report.not_executed:
        raise RuntimeError(f"expected every build of {name} to be measured, found {report.not_executed}")
    return report.entries, report.warnings
