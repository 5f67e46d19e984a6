"""Exports bundles by recipes, each in a step of its own, through the function that the command line calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from models import CALIBRATION_PHOTOS, EVALUATION_PHOTOS, ROOT
from processes import run_step

from edgevit.recipe import (
    BenchSettings,
    CalibrationSettings,
    EvaluationSettings,
    ParitySettings,
    PlanSettings,
    Recipe,
    read_recipe,
)
from edgevit.zoo import find_entry

if TYPE_CHECKING:
    from record import Options

    from edgevit.types import Rung

INT8 = ("openvino:int8", "onnxruntime:int8")
FLOAT = ("openvino:float32", "onnxruntime:float32")
UNSEARCHED = PlanSettings(ranges="min-max", weights="min-max", equalize=(), bias_correction=False)
"""A plan made in no time, for smoke runs."""


def recipe_for(model: str, targets: tuple[str, ...], *, samples: int, seed: int = 0, smoke: bool = False) -> Recipe:
    """A recipe without measuring. An untrained model of the zoo has no sets of its own and gets the photographs."""
    entry = find_entry(model)
    return Recipe(
        model=f"zoo:{model}",
        targets=targets,
        calibration=CalibrationSettings(set=entry.calibration or CALIBRATION_PHOTOS, samples=samples, seed=seed),
        evaluation=EvaluationSettings(set=entry.evaluation or EVALUATION_PHOTOS, samples=16 if smoke else None),
        plan=UNSEARCHED if smoke else PlanSettings(),
        parity=ParitySettings(layers=0),
        bench=BenchSettings(enabled=False),
    )


def export_texts(
    name: str, options: Options, targets: tuple[str, ...], built_with: dict[str, dict[str, str]] | None = None
) -> Path:
    """The bundle of a model of texts by its recipe of `export/`, with these targets and without measuring.

    An earlier run's where `options.bundles` has one. `built_with`: the options of targets.
    """
    out = (options.bundles or options.work) / name
    if out.exists():
        options.say(f"{name}: exported before")
        return out
    options.say(f"{name}: exporting")
    out.parent.mkdir(parents=True, exist_ok=True)
    replace = msgspec.structs.replace
    recipe = read_recipe(ROOT / "export" / f"{name}.toml")
    recipe = replace(
        recipe,
        targets=targets,
        options=built_with or {},
        parity=replace(recipe.parity, layers=0),
        bench=BenchSettings(enabled=False),
    )
    if options.smoke or options.quick:
        few = replace(recipe.calibration, samples=8), replace(recipe.evaluation, samples=8)
        recipe = replace(recipe, plan=UNSEARCHED, calibration=few[0], evaluation=few[1])
    run_step("bundles:export_bundle", {"recipe": msgspec.to_builtins(recipe), "out": str(out)})
    return out


def export_bundle(recipe: dict[str, Any], out: str) -> dict[str, Any]:
    """Step: exports by `recipe` to `out`; returns the rungs of its parity report and the cost of its stages."""
    from edgevit.pipeline import ExportOptions, export
    from edgevit.report.data import read_report

    result = export(msgspec.convert(recipe, Recipe), out, ExportOptions(command="benchmarks"))
    stages = read_report(Path(out) / "report.json").stages
    return {
        "rungs": [_rung(rung) for rung in result.parity.rungs],
        "stages": [msgspec.to_builtins(stage) for stage in stages],
        "float32_bytes": _float_size(Path(out)),
    }


def _rung(rung: Rung) -> dict[str, Any]:
    return {
        "name": rung.name,
        "verdict": rung.verdict,
        "samples": rung.samples,
        "sqnr_db": rung.closeness.sqnr_db if rung.closeness else None,
        "points_lost": -rung.task.difference if rung.task else None,
        "interval": msgspec.to_builtins(rung.task.interval) if rung.task else None,
        "flips": msgspec.to_builtins(rung.flips) if rung.flips else None,
    }


def _float_size(out: Path) -> int:
    """Bytes of the float32 weights, the measure of a model's size that the growth of cost is set against."""
    weights = out / "openvino-float32" / "model.bin"
    return weights.stat().st_size if weights.exists() else 0
