"""The whole export of each size, from the smallest to the largest: time and peak memory, stage by stage.

By the recipes in `export/`, with 64 calibration images (the photographs and their mirror images) and measuring kept
short. Each export is a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from bundles import UNSEARCHED
from models import ROOT, mirrored_photos
from processes import Cost, peak_of, run_step
from record import GIGABYTES, SECONDS, Figure, Findings, Options, Table, Target, figure

from edgevit.recipe import BenchSettings, CalibrationSettings, EvaluationSettings, Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("vit-tiny-224", "vit-small-224", "vit-base-224", "vit-large-224", "vit-huge-224")
LIMITS = {"vit-base-224": 3e9, "vit-large-224": 6e9, "vit-huge-224": 3 * 4 * 632_045_800}
"""Bytes; of a ViT-H three times its checkpoint of 632,045,800 parameters."""
SAMPLES = 64


class Found(msgspec.Struct, frozen=True, kw_only=True):
    cost: Cost
    stages: list[dict[str, Any]]
    float32_bytes: int

    @property
    def peak_bytes(self) -> int:
        return peak_of(self.cost, self.stages)


def main(options: Options) -> Findings:
    models = options.models or (("digits-vit",) if options.smoke else MODELS[:2] if options.quick else MODELS)
    photos = mirrored_photos(options.work / "photos")
    found: dict[str, Found] = {}
    for name in models:
        options.say(f"{name}: exporting")
        recipe = _recipe(name, photos, smoke=options.smoke)
        arguments = {"recipe": msgspec.to_builtins(recipe), "out": str(options.work / name)}
        step = run_step("bundles:export_bundle", arguments)
        found[name] = Found(cost=step.cost, stages=step.result["stages"], float32_bytes=step.result["float32_bytes"])
    return Findings(
        figures=tuple(_figures(found)),
        tables=(_totals(found), _stages(found, "seconds"), _stages(found, "peak_bytes")),
        raw={name: msgspec.to_builtins(one) for name, one in found.items()},
    )


def _recipe(name: str, photos: Path, *, smoke: bool) -> Recipe:
    recipe = read_recipe(ROOT / "export" / f"{name}.toml")
    replace = msgspec.structs.replace
    if smoke:
        return replace(
            recipe,
            targets=("openvino:float32", "openvino:int8"),
            when_available=(),
            calibration=CalibrationSettings(samples=16),
            evaluation=EvaluationSettings(samples=16),
            plan=UNSEARCHED,
            bench=BenchSettings(enabled=False),
        )
    return replace(
        recipe,
        calibration=replace(recipe.calibration, set=str(photos), samples=SAMPLES),
        bench=BenchSettings(seconds=1.0, rounds=2, cold_starts=0),
    )


def _figures(found: dict[str, Found]) -> list[Figure]:
    return [
        figure(
            f"{name}: peak memory of the whole export, {SAMPLES} samples",
            one.peak_bytes,
            Target(limit=LIMITS[name], quantity=GIGABYTES),
        )
        for name, one in found.items()
        if name in LIMITS
    ]


def _totals(found: dict[str, Found]) -> Table:
    rows = tuple(
        (
            name,
            GIGABYTES(one.float32_bytes),
            SECONDS(one.cost.seconds),
            GIGABYTES(one.peak_bytes),
            GIGABYTES(one.cost.peak_tree_bytes),
        )
        for name, one in found.items()
    )
    return Table(
        title="Whole exports: four builds, parity, a short measurement and the report",
        columns=("model", "float32 weights", "time", "peak memory", "peak of all processes"),
        rows=rows,
        note="Peak memory is that of the largest process, the exporting one in its largest stage; the last column adds "
        "up all that run at one moment, which is when the builds are measured, each in its own process.",
    )


def _stages(found: dict[str, Found], key: str) -> Table:
    """One row per stage, one column per model."""
    names: dict[str, None] = {}
    for one in found.values():
        names |= dict.fromkeys(stage["stage"] for stage in one.stages)
    printed = SECONDS if key == "seconds" else GIGABYTES

    def cell(stages: Sequence[dict[str, Any]], name: str) -> str:
        values = [stage[key] for stage in stages if stage["stage"] == name]
        return printed(values[0]) if values else ""

    return Table(
        title="Seconds by stage" if key == "seconds" else "Peak memory of the exporting process by stage",
        columns=("stage", *found),
        rows=tuple((name, *(cell(one.stages, name) for one in found.values())) for name in names),
    )
