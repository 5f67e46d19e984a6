"""A ViT in Hugging Face layout made int8 by edgevit, by optimum and by Olive, each as its users would have it done.

The same directory, the same calibration pictures; what each makes runs in the same sessions, in interleaved rounds of
one run, and is compared with the float model on pictures that calibration has not seen. Wall time is that of the whole
way, from the directory to the file, imports included; edgevit's includes its proof. See checkpoint_peers.py for the
environments of the others.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from bundles import UNSEARCHED
from checkpoint_peers import CALIBRATION, WAYS
from models import EVALUATION_PHOTOS, build_size, describe_build, empty_files, mirrored_photos, read_lowered
from processes import Spent, run_command, run_step
from quantizers import float_layers_here
from record import (
    DECIBEL,
    GIGABYTES,
    MEGABYTES,
    MILLISECONDS,
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

from edgevit.measure import BenchOptions, Subject, bench_builds
from edgevit.measure.samples import rounds_of
from edgevit.recipe import BenchSettings, CalibrationSettings, EvaluationSettings, ParitySettings, PlanSettings, Recipe
from edgevit.statistics import median_ratio

if TYPE_CHECKING:
    from edgevit.types import BenchReport, Ratio

OURS = {"openvino": "openvino-int8", "onnxruntime": "onnxruntime-int8"}
PEERS = {
    "openvino": ("optimum_openvino_static-int8", "optimum_openvino_weights-int8"),
    "onnxruntime": ("optimum_onnx_static-int8", "optimum_onnx_dynamic-int8", "olive_static-int8"),
}
TITLES = {
    OURS["openvino"]: "edgevit, OpenVINO",
    "optimum_openvino_static-int8": "optimum-intel, static",
    "optimum_openvino_weights-int8": "optimum-cli export openvino, weights",
    OURS["onnxruntime"]: "edgevit, ONNX Runtime",
    "optimum_onnx_static-int8": "optimum, ORTQuantizer, static",
    "optimum_onnx_dynamic-int8": "optimum-cli onnxruntime quantize, dynamic",
    "olive_static-int8": "Olive, static",
}
MODEL = "vit-base"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    size: dict[str, int]
    """What a `ViTConfig` of transformers is told; empty for ViT-B/16, its default."""
    calibration: int
    evaluation: int | None
    seconds: float
    rounds: int
    plan: PlanSettings = PlanSettings()


FULL = Settings(size={}, calibration=64, evaluation=None, seconds=6.0, rounds=8)
QUICK = Settings(size={}, calibration=16, evaluation=None, seconds=2.0, rounds=4)
SMOKE = Settings(
    size={
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "image_size": 64,
    },
    calibration=8,
    evaluation=8,
    seconds=0.2,
    rounds=2,
    plan=UNSEARCHED,
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured, by build."""

    spent: dict[str, Spent]
    stages: dict[str, list[dict[str, Any]]]
    """Of edgevit's builds: what each stage of the export cost."""
    versions: dict[str, dict[str, str]]
    closeness: dict[str, dict[str, float]]
    sizes: dict[str, int]
    bench: BenchReport


def main(options: Options) -> Findings:
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    found = _measured(settings, options)
    left_out = [TITLES[build] for peers in PEERS.values() for build in peers if build not in found.spent]
    warnings = [f"{title} was not measured: its Python was not named" for title in left_out]
    return Findings(
        figures=tuple(_figures(found)),
        tables=(_ways(found), _builds(found)),
        raw=msgspec.to_builtins(found),
        warnings=(*warnings, *found.bench.warnings),
    )


def _measured(settings: Settings, options: Options) -> Found:
    folder, source, images = options.work / "builds", options.work / MODEL, options.work / "images"
    photos = mirrored_photos(options.work / "photos")
    options.say("making the checkpoint")
    run_step("checkpoints:make_checkpoint", {"folder": str(source), "size": settings.size})
    run_step("models:lower", {"name": str(source), "folder": str(folder), "photos": str(photos)})
    run_step("checkpoints:prepare", {"folder": str(folder), "images": str(images), "samples": settings.calibration})
    spent: dict[str, Spent] = {}
    stages: dict[str, list[dict[str, Any]]] = {}
    versions: dict[str, dict[str, str]] = {}
    for engine, ours in OURS.items():
        spent[ours], stages[ours] = _by_edgevit(engine, source, photos, folder, settings, options)
        for build in PEERS[engine]:
            python = options.optimum if build.startswith("optimum_openvino") else options.olive
            if python is not None:
                spent[build], versions[build] = _by_peer(build, engine, python, source, images, folder, options)
    options.say("pictures that calibration has not seen")
    compared = {"folder": str(folder), "names": list(spent), "samples": settings.evaluation}
    closeness = run_step("models:closeness", compared).result
    options.say("latency")
    return Found(
        spent=spent,
        stages=stages,
        versions=versions,
        closeness=closeness,
        sizes={build: build_size(folder, build) for build in spent},
        bench=_bench(folder, list(spent), settings),
    )


# ---------------------------------------------------------------------------------------------------- steps


def make_checkpoint(folder: str, size: dict[str, int]) -> None:
    """Step: a ViT for images with random weights, saved as `save_pretrained` does."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(num_labels=1000, **size)
    ViTForImageClassification(config).eval().save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": config.image_size, "width": config.image_size},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def prepare(folder: str, images: str, samples: int) -> None:
    """Step: the calibration pictures as tensors, for those that cannot read the directory's preprocessing."""
    from quantizers import calibration_images

    Path(images).mkdir()
    rows = [batch["pixel_values"] for batch in calibration_images(read_lowered(folder), samples)]
    np.save(Path(images) / CALIBRATION, np.concatenate(rows))


def _by_edgevit(
    engine: str, source: Path, photos: Path, folder: Path, settings: Settings, options: Options
) -> tuple[Spent, list[dict[str, Any]]]:
    build = OURS[engine]
    options.say(TITLES[build])
    recipe = Recipe(
        model=str(source),
        targets=(f"{engine}:int8",),
        calibration=CalibrationSettings(set=str(photos), samples=settings.calibration),
        evaluation=EvaluationSettings(set=EVALUATION_PHOTOS, samples=settings.evaluation),
        plan=settings.plan,
        parity=ParitySettings(layers=0),
        bench=BenchSettings(enabled=False),
    )
    out = options.work / build
    step = run_step("bundles:export_bundle", {"recipe": msgspec.to_builtins(recipe), "out": str(out)})
    shutil.copytree(out / build, empty_files(folder, build), dirs_exist_ok=True)
    _describe(folder, build, engine)
    return Spent(seconds=step.cost.seconds, peak_tree_bytes=step.cost.peak_tree_bytes), step.result["stages"]


def _by_peer(
    build: str, engine: str, python: Path, source: Path, images: Path, folder: Path, options: Options
) -> tuple[Spent, dict[str, str]]:
    options.say(TITLES[build])
    way = build.removesuffix("-int8")
    assert way in WAYS
    script = Path(__file__).with_name("checkpoint_peers.py")
    arguments = (python, script, way, source, images, folder / build)
    spent = run_command([str(argument) for argument in arguments], TITLES[build])
    _describe(folder, build, engine)
    versions: dict[str, str] = json.loads((folder / build / "versions.json").read_text())
    return spent, versions


def _describe(folder: Path, build: str, engine: str) -> None:
    """OpenVINO's int8 builds run their float layers in what it takes by itself, edgevit's as the others."""
    settings = {"float_layers": float_layers_here()} if engine == "openvino" else {}
    describe_build(folder, build, engine, "int8", settings)


def _bench(folder: Path, builds: list[str], settings: Settings) -> BenchReport:
    subjects = [
        Subject(
            target=build.removesuffix("-int8"),
            precision="int8",
            bundle=str(folder),
            size_bytes=0,
            opener="models:open_built",
        )
        for build in builds
    ]
    how = BenchOptions(
        seconds=settings.seconds,
        rounds=settings.rounds,
        streams=1,
        cold_starts=0,
        warmup_seconds=settings.seconds / 10,
    )
    report = bench_builds(MODEL, subjects, how)
    if report.not_executed:
        raise RuntimeError(f"expected every build to be measured, found {report.not_executed}")
    return report


# ------------------------------------------------------------------------------------------------- findings


def _ratios(found: Found) -> dict[str, Ratio]:
    """Latency of edgevit's build against each peer's of the same engine."""
    from edgevit.types import Ratio

    rounds = {entry.name: rounds_of(entry.latency) for entry in found.bench.entries}
    ratios = {}
    for engine, ours in OURS.items():
        for build in PEERS[engine]:
            if build in rounds:
                value, interval = median_ratio(rounds[ours], rounds[build], paired=True)
                ratios[build] = Ratio(value=value, interval=interval, baseline=build)
    return ratios


def _figures(found: Found) -> list[Figure]:
    figures = []
    ratios = _ratios(found)
    for engine, ours in OURS.items():
        for build in PEERS[engine]:
            if build not in ratios:
                continue
            ratio, limit = ratios[build], found.closeness[build]["sqnr_db"]
            label = f"{TITLES[ours]} against {TITLES[build]}"
            target = Target(limit=1.0, quantity=RATIO)
            figures.append(figure(f"{label}: latency", ratio.value, target, ratio.interval))
            closer = Target(limit=limit, quantity=DECIBEL, at_least=True)
            figures.append(figure(f"{label}: logits' SQNR", found.closeness[ours]["sqnr_db"], closer))
            value = found.spent[ours].seconds / found.spent[build].seconds
            figures.append(figure(f"{label}: wall time", value, target))
            value = found.spent[ours].peak_tree_bytes / found.spent[build].peak_tree_bytes
            figures.append(figure(f"{label}: peak memory", value, target))
    return figures


def _ways(found: Found) -> Table:
    rows = tuple(
        (TITLES[build], SECONDS(spent.seconds), GIGABYTES(spent.peak_tree_bytes), _made_with(found, build))
        for build, spent in found.spent.items()
    )
    stages = "; ".join(
        f"{TITLES[build]}: " + ", ".join(f"{cost['stage']} {SECONDS(cost['seconds'])}" for cost in costs)
        for build, costs in found.stages.items()
    )
    return Table(
        title="From the directory to an int8 file",
        columns=("way", "wall time", "peak memory", "with"),
        rows=rows,
        note=f"Peak memory is that of all its processes together. edgevit's stages, its proof among them: {stages}.",
    )


def _made_with(found: Found, build: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.versions.get(build, {}).items()) or "this checkout"


def _builds(found: Found) -> Table:
    latency = {entry.name: entry.latency.p50 for entry in found.bench.entries}
    ratios = _ratios(found)
    rows = tuple(
        (
            TITLES[build],
            MILLISECONDS(latency[build]),
            with_interval(RATIO, ratios[build].value, ratios[build].interval) if build in ratios else "",
            DECIBEL(found.closeness[build]["sqnr_db"]),
            MEGABYTES(found.sizes[build]),
        )
        for build in found.spent
    )
    return Table(
        title="What they made, batch 1",
        columns=("build", "median latency", "edgevit's against it", "logits' SQNR", "size"),
        rows=rows,
        note="Random weights: speed, size and closeness to the float model only.",
    )
