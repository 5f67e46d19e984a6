"""Models that read and write: the cost of a token, with and without the cache, in int8, against NNCF, and of the loop.

The base Transformer (untrained: speed and size only) carries the figures; the small trained models make the table.
Each build is measured in its own process, in turns. NNCF gets the float32 OpenVINO build and decoder inputs of the
float model's own writing; its float layers execute in what edgevit's int8 build executes them in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bundles import UNSEARCHED
from loops import NNCF_STATIC, NNCF_WEIGHTS
from models import ROOT
from processes import run_step
from record import (
    MEGABYTES,
    MILLISECONDS,
    PERCENT,
    RATIO,
    Figure,
    Findings,
    Options,
    Quantity,
    Table,
    Target,
    figure,
    with_interval,
)

from edgevit.measure import BenchOptions, Subject, bench_builds
from edgevit.measure.bench import texts_of
from edgevit.measure.samples import rounds_of
from edgevit.recipe import BenchSettings, Recipe, read_recipe
from edgevit.report.data import read_report
from edgevit.statistics import median_ratio
from edgevit.types import BenchEntry, BenchReport, Interval
from edgevit.zoo.catalog import PHRASES, TRANSFORMER_BASE, sequence_names

FLOAT, INT8 = "openvino-float32", "openvino-int8"
ENGINES = ("openvino", "onnxruntime")
TITLES = {NNCF_WEIGHTS: "NNCF, int8 weights", NNCF_STATIC: "NNCF, int8"}
TOKENS = 128
EARLY, LATE = slice(5, 11), slice(-7, None)
"""The tokens around the eighth and the last ones: a median of six or seven."""
RATE = Quantity(unit="/s", digits=1)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    tokens: int = TOKENS
    runs: int
    seconds: float
    rounds: int
    texts: int
    batches: tuple[int, ...] = (1, 8)


FULL = Settings(runs=7, seconds=20.0, rounds=5, texts=200)
QUICK = Settings(runs=3, seconds=6.0, rounds=2, texts=50)
SMOKE = Settings(tokens=16, runs=1, seconds=0.1, rounds=1, texts=4, batches=(1,))


def main(options: Options) -> Findings:
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    trained = tuple(name for name in PHRASES if name in sequence_names())
    names = options.models or (("phrases-transformer",) if options.smoke else (TRANSFORMER_BASE, *trained))
    fast = names[0]
    bundles = {}
    for name in names:
        options.say(f"{name}: exporting")
        bundles[name] = options.work / name
        recipe = _recipe(name, smoke=options.smoke or options.quick)
        run_step("bundles:export_bundle", {"recipe": msgspec.to_builtins(recipe), "out": str(bundles[name])})
    loops = _loops(bundles[fast], settings, options)
    options.say(f"{fast}: NNCF")
    run_step("loops:nncf_builds", {"bundle": str(bundles[fast]), "out": str(options.work / "peers")})
    options.say(f"{fast}: all builds, token by token")
    report = _measured(fast, options.work / "peers" / "bundle", settings)
    small = {name: bundles[name] for name in names if name in trained}
    results = {name: _results(name, bundle, settings, options) for name, bundle in small.items()}
    return Findings(
        figures=(*_loop_figures(fast, loops), *_build_figures(fast, report)),
        tables=(
            _builds_table(fast, report),
            _memory_table(fast, report),
            *([_results_table(results)] if results else []),
        ),
        raw={"loops": loops, "builds": msgspec.to_builtins(report.entries), "results": results},
        warnings=report.warnings,
    )


def _recipe(name: str, *, smoke: bool) -> Recipe:
    recipe = read_recipe(ROOT / "export" / f"{name}.toml")
    replace = msgspec.structs.replace
    short = {"plan": UNSEARCHED, "evaluation": replace(recipe.evaluation, samples=8)} if smoke else {}
    if smoke:
        short["calibration"] = replace(recipe.calibration, samples=8)
    return replace(recipe, parity=replace(recipe.parity, layers=0), bench=BenchSettings(enabled=False), **short)


# ---------------------------------------------------------------------------------------------- measurements


def _loops(bundle: Path, settings: Settings, options: Options) -> dict[str, Any]:
    """Token by token by each engine and precision, and the whole without a cache."""
    found: dict[str, Any] = {}
    for engine in ENGINES:
        for precision in ("float32", "int8"):
            options.say(f"{engine}:{precision}: the loop")
            arguments = {
                "bundle": str(bundle),
                "target": f"{engine}:{precision}",
                "tokens": settings.tokens,
                "runs": settings.runs,
            }
            found[f"{engine}-{precision}"] = run_step("loops:time_loop", arguments).result
            if precision == "float32":
                options.say(f"{engine}:{precision}: without a cache")
                arguments["runs"] = max(1, settings.runs // 3)
                found[f"{engine}-{precision}"]["whole"] = run_step("loops:time_without_cache", arguments).result
    return found


def _measured(name: str, bundle: Path, settings: Settings) -> BenchReport:
    from edgevit.bundle import open_bundle

    opened = open_bundle(bundle, check="manifest")
    own = [f"{engine}-{precision}" for engine in ENGINES for precision in ("float32", "int8")]
    subjects = [
        Subject(
            target=build.rpartition("-")[0],
            precision=build.rpartition("-")[2],
            bundle=str(bundle),
            size_bytes=_size(bundle, build),
            opener="loops:open_peer",
            texts=texts_of(opened),
        )
        for build in (*own, NNCF_WEIGHTS, NNCF_STATIC)
    ]
    options = BenchOptions(
        batch_sizes=settings.batches,
        seconds=settings.seconds,
        rounds=settings.rounds,
        streams=1,
        cold_starts=0,
        warmup_seconds=settings.seconds / 20,
        tokens=settings.tokens,
        beams=(1, 4),
    )
    report = bench_builds(name, subjects, options)
    if report.not_executed:
        raise RuntimeError(f"expected every build of {name} to be measured, found {report.not_executed}")
    return report


def _size(bundle: Path, build: str) -> int:
    folder = bundle / build if (bundle / build).exists() else bundle.parent / build
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _results(name: str, bundle: Path, settings: Settings, options: Options) -> dict[str, Any]:
    """Of one small model: what its parity report says and how fast its results come, by build."""
    parity = read_report(bundle / "report.json").parity
    rungs = {rung.name: msgspec.to_builtins(rung) for rung in (parity.rungs if parity else ())}
    found = {}
    for build in (FLOAT, INT8):
        options.say(f"{name}: results of {build}")
        arguments = {"bundle": str(bundle), "target": build, "count": settings.texts}
        rung = rungs.get(build) or {}
        found[build] = {
            **run_step("loops:time_results", arguments).result,
            "task": rung.get("task"),
            "scores": rung.get("scores", []),
        }
    return found


# --------------------------------------------------------------------------------------------------- findings


def _loop_figures(name: str, loops: dict[str, Any]) -> list[Figure]:
    figures = []
    for build, found in loops.items():
        tokens, engine = (np.asarray(found[key], dtype=np.float64)[:, 1:] for key in ("token_ns", "engine_ns"))
        shares = 100 * (tokens.sum(axis=1) / engine.sum(axis=1) - 1)
        value, interval = _median(shares)
        target = Target(limit=5.0, quantity=PERCENT)
        figures.append(figure(f"{name} {build}: the loop beyond the engine's own steps", value, target, interval))
        value, interval = _median(np.median(tokens[:, LATE], axis=1) / np.median(tokens[:, EARLY], axis=1))
        last = tokens.shape[1] + 1
        target = Target(limit=1.3, quantity=RATIO)
        figures.append(figure(f"{name} {build}: token {last} against token 8", value, target, interval))
        if "whole" in found:
            whole = found["whole"]
            value, interval = _median(np.asarray(whole["without"]) / np.asarray(whole["cached"]))
            label = f"{name} {build}: {whole['tokens']} tokens without the cache against with it"
            figures.append(figure(label, value, Target(limit=3.0, quantity=RATIO, at_least=True), interval))
    return figures


def _build_figures(name: str, report: BenchReport) -> list[Figure]:
    entries = {entry.name: entry for entry in report.entries if entry.batch_size == 1}
    faster, interval = _ratio(entries[FLOAT], entries[INT8])
    target = Target(limit=1.8, quantity=RATIO, at_least=True, needs_vnni=True)
    figures = [figure(f"{name}, OpenVINO: a token in float32 against int8", faster, target, interval)]
    for peer in (NNCF_WEIGHTS, NNCF_STATIC):
        value, interval = _ratio(entries[INT8], entries[peer])
        label = f"{name}, OpenVINO int8: a token against {TITLES[peer]}"
        figures.append(figure(label, value, Target(limit=1.0, quantity=RATIO), interval))
    return figures


def _ratio(one: BenchEntry, other: BenchEntry) -> tuple[float, Interval]:
    """Of the medians of a further token, paired by round."""
    assert one.generation is not None
    assert other.generation is not None
    return median_ratio(rounds_of(one.generation.next_token), rounds_of(other.generation.next_token), paired=True)


def _median(values: Any, level: float = 0.95) -> tuple[float, Interval]:
    """Median over runs with its percentile bootstrap interval."""
    drawn = np.median(np.random.default_rng(0).choice(values, (2000, len(values))), axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(np.median(values)), Interval(low=float(low), high=float(high), level=level)


def _builds_table(name: str, report: BenchReport) -> Table:
    rows = []
    for entry in report.entries:
        times = entry.generation
        assert times is not None
        rates = {rate.beams: rate.tokens_per_second for rate in times.rates}
        rows.append(
            (
                TITLES.get(entry.name, entry.name),
                str(entry.batch_size),
                MILLISECONDS(times.first_token.p50),
                MILLISECONDS(times.next_token.p50),
                *(RATE(rates[beams]) for beams in sorted(rates)),
                MEGABYTES(entry.size_bytes),
            )
        )
    beams = sorted({rate.beams for entry in report.entries for rate in entry.generation.rates})  # type: ignore[union-attr]
    tokens = report.entries[0].generation.tokens  # type: ignore[union-attr]
    return Table(
        title=f"{name}: {tokens} tokens written for each source of 16, medians; tokens per second of the whole batch",
        columns=(
            "build", "batch", "first token", "further token", *(f"tokens, beams {count}" for count in beams), "size",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _memory_table(name: str, report: BenchReport) -> Table:
    entries = [entry for entry in report.entries if entry.generation]
    places = [at.tokens for at in entries[0].generation.memory]  # type: ignore[union-attr]
    return Table(
        title=f"{name}: resident memory of the process by tokens written, one beam",
        columns=("build", "batch", *map(str, places)),
        rows=tuple(
            (
                TITLES.get(entry.name, entry.name),
                str(entry.batch_size),
                *(MEGABYTES(at.resident_bytes) for at in entry.generation.memory),  # type: ignore[union-attr]
            )
            for entry in entries
        ),
    )


def _results_table(results: dict[str, Any]) -> Table:
    rows = []
    for name, builds in results.items():
        for build, found in builds.items():
            task = found["task"] or {}
            corpus = {score["metric"].lower(): score["build"] for score in found["scores"]}
            value, interval = _median(np.asarray(found["single_ms"]))
            rows.append(
                (
                    name,
                    build.removeprefix("openvino-"),
                    f"{task['build']:.1f} % {task['metric']}" if task else "",
                    f"{corpus['bleu']:.1f}" if "bleu" in corpus else "",
                    MEGABYTES(found["size"]),
                    with_interval(MILLISECONDS, value, interval),
                    RATE(found["per_second"]),
                )
            )
    return Table(
        title="The small models on held-out phrases, OpenVINO: one phrase at a time, and all of them as one list",
        columns=("model", "build", "right", "BLEU", "size", "latency", "phrases"),
        rows=tuple(rows),
    )
