"""Models that read and write: the cost of a token, with and without the cache, in int8, against NNCF, and of the loop.

The base Transformer, untrained: speed and size only. What the small trained models get right is in `phrases`.
Each build is measured in its own process, in turns. NNCF gets the float32 OpenVINO build and decoder inputs of the
float model's own writing; its builds are opened with the settings of edgevit's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import nncf_parts
import tokens
from bundles import export_texts
from models import ROOT
from processes import StepError, run_step
from record import Findings, Options

from edgevit.errors import InputError
from edgevit.measure import BenchOptions, Subject, bench_builds
from edgevit.measure.bench import texts_of
from edgevit.types import BenchEntry
from edgevit.zoo.catalog import TRANSFORMER_BASE

TARGETS = (
    "openvino:float32",
    "openvino:int8",
    "openvino:int8d",
    "openvino:int8w",
    "onnxruntime:float32",
    "onnxruntime:int8",
    "onnxruntime:int8d",
)
TOKENS = 128


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How the builds are measured at one batch."""

    batch: int
    seconds: float
    rounds: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    tokens: int = TOKENS
    runs: int
    loads: tuple[Load, ...]


FULL = Settings(runs=7, loads=(Load(batch=1, seconds=10.0, rounds=5), Load(batch=8, seconds=2.0, rounds=2)))
QUICK = Settings(runs=3, loads=(Load(batch=1, seconds=2.0, rounds=2),))
SMOKE = Settings(tokens=16, runs=1, loads=(Load(batch=1, seconds=0.1, rounds=1),))


def main(options: Options) -> Findings:
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    if len(options.models) > 1:
        raise InputError(f"expected one --model for sequences, found {', '.join(options.models)}; run it for each")
    name = options.models[0] if options.models else "phrases-transformer" if options.smoke else TRANSFORMER_BASE
    bundle = export_texts(name, options, TARGETS)
    loops = _loops(bundle, settings, options)
    optimum = _optimum(settings, options)
    graphs = _graphs(bundle, settings, options)
    entries, warnings = _measured(name, with_peers(bundle, options), settings, options)
    return Findings(
        figures=(
            *tokens.loop_figures(name, loops),
            *tokens.build_figures(name, entries),
            *(tokens.optimum_figures(name, loops, optimum) if optimum else ()),
        ),
        tables=(
            tokens.builds_table(name, entries),
            tokens.memory_table(name, entries),
            tokens.graphs_table(name, graphs),
            *((tokens.optimum_table(name, loops, optimum),) if optimum else ()),
        ),
        raw={
            "loops": loops,
            "graphs": graphs,
            "builds": [tokens.without_samples(entry) for entry in entries],
            "optimum": optimum,
        },
        warnings=(
            *warnings,
            *(() if optimum else ("optimum-intel was not measured: --optimum names no Python of its",)),
        ),
    )


def with_peers(bundle: Path, options: Options) -> Path:
    """The bundle, with NNCF's builds of its model beside it."""
    out = (options.bundles or options.work) / f"{bundle.name}-peers"
    if not (out / "bundle").exists():
        options.say(f"{bundle.name}: NNCF")
        run_step("nncf_parts:nncf_builds", {"bundle": str(bundle), "out": str(out)})
    return out / "bundle"


# ---------------------------------------------------------------------------------------------- measurements


def _loops(bundle: Path, settings: Settings, options: Options) -> dict[str, Any]:
    """Token by token by each build, and the whole without a cache in float32."""
    found: dict[str, Any] = {}
    for target in TARGETS:
        options.say(f"{target}: the loop")
        arguments = {"bundle": str(bundle), "target": target, "tokens": settings.tokens, "runs": settings.runs}
        found[target.replace(":", "-")] = loop = run_step("loops:time_loop", arguments).result
        if target.endswith(":float32"):
            options.say(f"{target}: without a cache")
            arguments["runs"] = max(1, settings.runs // 3)
            loop["whole"] = run_step("loops:time_without_cache", arguments).result
    return found


def _optimum(settings: Settings, options: Options) -> dict[str, Any] | None:
    """What optimum-intel's own export and loop need for a model of the base Transformer's size, if it is there."""
    if options.optimum is None:
        return None
    options.say("optimum-intel: exporting and writing")
    result = options.work / "optimum.json"
    folder = (options.bundles or options.work) / "optimum"
    command = [options.optimum, ROOT / "benchmarks" / "optimum_intel.py", folder, result]
    done = subprocess.run(
        [*map(str, command), str(settings.tokens), str(settings.runs)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.strip().splitlines()[-1:])
        raise StepError(f"optimum_intel.py ended with status {done.returncode}: {said}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _graphs(bundle: Path, settings: Settings, options: Options) -> dict[str, Any]:
    """One graph for every length against one for steps alone, OpenVINO."""
    found = {}
    for target in TARGETS[:2]:
        options.say(f"{target}: one graph or two")
        arguments = {"bundle": str(bundle), "target": target, "tokens": settings.tokens, "runs": settings.runs}
        found[target.replace(":", "-")] = run_step("loops:time_step_graph", arguments).result
    return found


def _measured(
    name: str, bundle: Path, settings: Settings, options: Options
) -> tuple[tuple[BenchEntry, ...], tuple[str, ...]]:
    """Every build, ours and NNCF's, at each load, and what warnings there were."""
    from edgevit.bundle import open_bundle

    texts = texts_of(open_bundle(bundle, check="manifest"))
    subjects = [
        Subject(
            target=build.rpartition("-")[0],
            precision=build.rpartition("-")[2],
            bundle=str(bundle),
            size_bytes=_size(bundle, build),
            opener="nncf_parts:open_peer",
            texts=texts,
        )
        for build in (*(target.replace(":", "-") for target in TARGETS), *nncf_parts.FILES)
    ]
    entries: list[BenchEntry] = []
    warnings: list[str] = []
    for load in settings.loads:
        options.say(f"{name}: batch {load.batch}")
        how = BenchOptions(
            batch_sizes=(load.batch,),
            seconds=load.seconds,
            rounds=load.rounds,
            streams=1,
            cold_starts=0,
            warmup_seconds=load.seconds / 20,
            tokens=settings.tokens,
            beams=(1, 4),
        )
        report = bench_builds(name, subjects, how)
        if report.not_executed:
            raise RuntimeError(f"expected every build of {name} to be measured, found {report.not_executed}")
        entries += report.entries
        # Of `latency`, one call of both parts under teacher forcing, nothing is told here: its drift is nobody's.
        warnings += [warning for warning in report.warnings if "drifted" not in warning]
    return tuple(entries), tuple(dict.fromkeys(warnings))


def _size(bundle: Path, build: str) -> int:
    folder = bundle / build if (bundle / build).exists() else bundle.parent / nncf_parts.FILES[build]
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
