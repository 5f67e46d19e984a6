"""int8 by edgevit against int8 by the engines' own quantizers: latency, closeness to float, and what making it costs.

Same float ONNX, same calibration images, same sessions. Latencies are taken in interleaved rounds of one run, each
build in its own process; closeness on photographs (or digits) that calibration has not seen.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec
from models import build_size, mirrored_photos
from processes import Cost, peak_of, run_step
from quantizers import PREPARED, float_layers_here
from record import (
    DECIBEL,
    GIGABYTES,
    MEGABYTES,
    MILLISECONDS,
    POINTS,
    RATIO,
    SECONDS,
    Figure,
    Findings,
    Options,
    Table,
    Target,
    figure,
    with_interval,
)

from edgevit.errors import missing_package
from edgevit.measure import BenchOptions, Subject, bench_builds
from edgevit.measure.samples import rounds_of, thin
from edgevit.statistics import median_ratio

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.types import Latency, Ratio

MODELS = ("digits-vit", "vit-tiny-224", "vit-base-224")
SAMPLES_KEPT = 300
"""Latencies per build in the recorded file; ratios are computed from all of them."""

FLOATS = {"openvino": "openvino-float32", "onnxruntime": "onnxruntime-float32"}
OURS = {"openvino": "openvino-int8", "onnxruntime": "onnxruntime-int8"}
NNCF, STATIC, STATIC_BEST, DYNAMIC = "nncf-int8", "static-int8", "static_best-int8", "dynamic-int8"
PEERS = {"openvino": (NNCF,), "onnxruntime": (STATIC, STATIC_BEST, DYNAMIC)}
BFLOAT16 = "openvino-bfloat16"
IN_FLOAT32 = {"openvino-int8": "openvino_f32-int8", NNCF: "nncf_f32-int8"}
"""Where int8 builds run their float layers in bfloat16: the same builds with them in float32."""
TITLES = {
    "openvino-float32": "OpenVINO float32",
    BFLOAT16: "OpenVINO bfloat16",
    "openvino-int8": "edgevit int8, OpenVINO",
    NNCF: "NNCF int8, OpenVINO",
    IN_FLOAT32["openvino-int8"]: "edgevit int8, OpenVINO, rest float32",
    IN_FLOAT32[NNCF]: "NNCF int8, OpenVINO, rest float32",
    "onnxruntime-float32": "ONNX Runtime float32",
    "onnxruntime-int8": "edgevit int8, ONNX Runtime",
    STATIC: "quantize_static, its defaults",
    STATIC_BEST: "quantize_static, per channel",
    DYNAMIC: "quantize_dynamic",
}

SHORT = {
    NNCF: "NNCF",
    STATIC: "quantize_static",
    STATIC_BEST: "quantize_static per channel",
    DYNAMIC: "quantize_dynamic",
}
ENGINES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    calibration: int
    """Images, at most: the digits have more, the photographs are 64 with their mirror images."""
    evaluation: int | None
    repeats: int
    """How often the steps that make an int8 OpenVINO build are run, by both in turn."""
    seconds: float
    rounds: int
    searched: bool = True


FULL = Settings(calibration=256, evaluation=None, repeats=2, seconds=10.0, rounds=10)
QUICK = Settings(calibration=32, evaluation=None, repeats=1, seconds=4.0, rounds=4)
SMOKE = Settings(calibration=8, evaluation=16, repeats=1, seconds=0.2, rounds=2, searched=False)


def main(options: Options) -> Findings:
    models = options.models or (MODELS[:1] if options.smoke else MODELS)
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    if find_spec("nncf") is None:
        raise missing_package("nncf", "peers", "the suite peers")
    photos = mirrored_photos(options.work / "photos")
    tables: list[Table] = []
    figures: list[Figure] = []
    raw: dict[str, Any] = {}
    warnings: list[str] = []
    for name in models:
        found = _measured(name, photos, settings, options)
        figures += _figures(name, found)
        tables += [_speed_table(name, found), _cost_table(name, found)]
        warnings += found.warnings
        raw[name] = msgspec.to_builtins(found)
    return Findings(figures=tuple(figures), tables=tuple(tables), raw=raw, warnings=tuple(dict.fromkeys(warnings)))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured for one model, by build."""

    latency: dict[str, Latency]
    ratios: dict[str, dict[str, Ratio]]
    """Build to baseline to the ratio of their latencies."""
    closeness: dict[str, dict[str, float]]
    sizes: dict[str, int]
    costs: dict[str, list[Cost]]
    """What making the build cost, from the float ONNX on; one per repeat."""
    stages: list[dict[str, Any]]
    """edgevit's own stages in its last repeat."""
    warnings: list[str]


def _measured(name: str, photos: Path, settings: Settings, options: Options) -> Found:
    folder = options.work / name
    options.say(f"{name}: lowering")
    run_step("models:lower", {"name": name, "folder": str(folder), "photos": str(photos)})
    bfloat16 = float_layers_here() == "bf16"
    floats = {
        FLOATS["openvino"]: ("openvino", {}),
        FLOATS["onnxruntime"]: ("onnxruntime", {}),
        PREPARED: ("onnxruntime", {"optimize": "no"}),
    }
    if bfloat16:
        floats[BFLOAT16] = ("openvino", {"float_layers": "bf16"})
    run_step("models:build_floats", {"folder": str(folder), "builds": floats})
    costs, stages = _quantized(folder, settings, options)
    if bfloat16:
        for build, copy in IN_FLOAT32.items():
            arguments = {"folder": str(folder), "name": build, "copy": copy, "hint": "f32"}
            run_step("models:with_float_layers", arguments)
    builds = [build for build in TITLES if bfloat16 or build not in (BFLOAT16, *IN_FLOAT32.values())]
    options.say(f"{name}: held-out images")
    compared = {"folder": str(folder), "names": builds, "samples": settings.evaluation}
    closeness = run_step("models:closeness", compared).result
    options.say(f"{name}: latency")
    latency, ratios, warnings = _latency(name, folder, builds, settings)
    sizes = {build: build_size(folder, build) for build in builds}
    shutil.rmtree(folder)
    return Found(
        latency=latency,
        ratios=ratios,
        closeness=closeness,
        sizes=sizes,
        costs=costs,
        stages=stages,
        warnings=warnings,
    )


def _quantized(
    folder: Path, settings: Settings, options: Options
) -> tuple[dict[str, list[Cost]], list[dict[str, Any]]]:
    """Makes every int8 build. edgevit and NNCF take turns; the last repeat's builds stay."""
    costs: dict[str, list[Cost]] = {}
    stages: list[dict[str, Any]] = []

    def make(build: str, function: str, **arguments: Any) -> Any:
        options.say(f"{folder.name}: {TITLES[build]}")
        shutil.rmtree(folder / build, ignore_errors=True)
        step = run_step(f"quantizers:{function}", {"folder": str(folder), "name": build, **arguments})
        costs.setdefault(build, []).append(step.cost)
        return step.result

    count = {"samples": settings.calibration}
    for repeat in range(settings.repeats):
        work = str(folder / f"stages-{repeat}")
        stages = make(OURS["openvino"], "edgevit_openvino", work=work, searched=settings.searched, **count)
        shutil.rmtree(work)
        make(NNCF, "nncf_openvino", **count)
    make(OURS["onnxruntime"], "edgevit_onnxruntime", planned_by=OURS["openvino"])
    make(STATIC, "static_defaults", **count)
    make(STATIC_BEST, "static_best", **count)
    make(DYNAMIC, "dynamic")
    return costs, stages


def _latency(
    name: str, folder: Path, builds: list[str], settings: Settings
) -> tuple[dict[str, Latency], dict[str, dict[str, Ratio]], list[str]]:
    """Batch 1, all builds in interleaved rounds; int8 builds against their float32, and ours against peers'."""
    from edgevit.types import Ratio

    subjects = [
        Subject(
            target=build.rpartition("-")[0],
            precision=build.rpartition("-")[2],
            bundle=str(folder),
            size_bytes=0,
            opener="models:open_built",
        )
        for build in builds
    ]
    report = bench_builds(
        name,
        subjects,
        BenchOptions(
            seconds=settings.seconds,
            rounds=settings.rounds,
            streams=1,
            cold_starts=0,
            warmup_seconds=settings.seconds / 10,
        ),
    )
    if report.not_executed:
        raise RuntimeError(f"expected every build of {name} to be measured, found {report.not_executed}")
    rounds = {entry.name: rounds_of(entry.latency) for entry in report.entries}

    def ratio(build: str, baseline: str) -> Ratio:
        value, interval = median_ratio(rounds[build], rounds[baseline], paired=True)
        return Ratio(value=value, interval=interval, baseline=baseline)

    ratios = {
        build: {FLOATS[_engine_of(build)]: ratio(build, FLOATS[_engine_of(build)])}
        for build in builds
        if build not in FLOATS.values()
    }
    for engine, ours in OURS.items():
        for peer in PEERS[engine]:
            ratios[ours][peer] = ratio(ours, peer)
    ours, peer = IN_FLOAT32.values()
    if ours in ratios:
        ratios[ours][peer] = ratio(ours, peer)
    return {entry.name: _thinned(entry.latency) for entry in report.entries}, ratios, list(report.warnings)


def _engine_of(build: str) -> str:
    """Which engine runs a build of `TITLES`."""
    return "onnxruntime" if build.startswith("onnxruntime-") or build in PEERS["onnxruntime"] else "openvino"


def _thinned(latency: Latency) -> Latency:
    kept = thin(rounds_of(latency), SAMPLES_KEPT)  # type: ignore[arg-type]
    return msgspec.structs.replace(
        latency, samples=tuple(sample for part in kept for sample in part), round_sizes=tuple(map(len, kept))
    )


# ------------------------------------------------------------------------------------------------- findings


def _figures(name: str, found: Found) -> list[Figure]:
    """ViT-B carries the targets; another model is judged by the same ones where they are relative to a peer."""
    figures = []
    for engine, ours in OURS.items():
        label = f"{name}, {ENGINES[engine]} int8"
        if name == "vit-base-224" and engine == "openvino":
            ratio = found.ratios[ours][FLOATS[engine]]
            target = Target(limit=0.36, quantity=RATIO, needs_vnni=True)
            figures.append(figure(f"{label}: latency against float32", ratio.value, target, ratio.interval))
        for peer in PEERS[engine]:
            ratio = found.ratios[ours][peer]
            target = Target(limit=1.02, quantity=RATIO)
            figures.append(figure(f"{label}: latency against {SHORT[peer]}", ratio.value, target, ratio.interval))
        for peer in PEERS[engine]:
            limit = found.closeness[peer]["sqnr_db"]
            target = Target(limit=limit, quantity=DECIBEL, at_least=True, whose=SHORT[peer])
            figures.append(figure(f"{label}: logits' SQNR", found.closeness[ours]["sqnr_db"], target))
    ours, peer = IN_FLOAT32.values()
    if ours in found.ratios:
        ratio, label = found.ratios[ours][peer], f"{name}, OpenVINO int8, rest float32"
        target = Target(limit=1.02, quantity=RATIO)
        figures.append(figure(f"{label}: latency against {SHORT[NNCF]}", ratio.value, target, ratio.interval))
    value = _seconds(found, OURS["openvino"]) / _seconds(found, NNCF)
    figures.append(figure(f"{name}: export time against NNCF", value, Target(limit=1.0, quantity=RATIO)))
    return figures


def _speed_table(name: str, found: Found) -> Table:
    trained = "points_lost" in found.closeness[NNCF]
    rows = []
    for build, close in found.closeness.items():
        title = TITLES[build]
        ratio = found.ratios[build][FLOATS[_engine_of(build)]] if build in found.ratios else None
        row = [
            title,
            MILLISECONDS(found.latency[build].p50),
            "1" if ratio is None else with_interval(RATIO, ratio.value, ratio.interval),
            DECIBEL(close["sqnr_db"]),
            f"{close['int8_layers']:.0f} of {close['layers']:.0f}",
            MEGABYTES(found.sizes[build]),
        ]
        rows.append((*row, POINTS(close["points_lost"])) if trained else tuple(row))
    columns = ("build", "median latency", "of its engine's float32", "logits' SQNR", "int8 layers executed", "size")
    return Table(
        title=f"{name}, batch 1",
        columns=(*columns, "accuracy lost") if trained else columns,
        rows=tuple(rows),
        note="" if trained else "Untrained weights: speed, size and closeness only.",
    )


def _cost_table(name: str, found: Found) -> Table:
    stages = {OURS["openvino"]: found.stages}
    rows = tuple(
        (
            TITLES[build],
            SECONDS(_seconds(found, build)),
            GIGABYTES(max(peak_of(cost, stages.get(build, ())) for cost in found.costs[build])),
            str(len(found.costs[build])),
        )
        for build in TITLES
        if build in found.costs
    )
    spent = ", ".join(f"{cost['stage']} {SECONDS(cost['seconds'])}" for cost in found.stages)
    return Table(
        title=f"{name}, making the int8 build from the float ONNX",
        columns=("build", "time", "peak memory", "runs"),
        rows=rows,
        note=f"edgevit's stages: {spent}. Its ONNX Runtime build takes the plan of the OpenVINO build.",
    )


def _seconds(found: Found, build: str) -> float:
    return median(cost.seconds for cost in found.costs[build])
