"""How much int8 loses, and how much of that is chance: the trained model, calibrated on five choices of images.

Every seed takes other calibration images of the published set; the held-out images are always the same. A loss is
positive: points of accuracy that the float reference has and the int8 model has not.
"""

from __future__ import annotations

from statistics import mean
from typing import Any

import msgspec
from bundles import INT8, export_bundle, recipe_for
from processes import run_step
from record import DECIBEL, POINTS, Findings, Options, Table, Target, figure

MODEL = "digits-vit"
SAMPLES = 256
WHERE = {"simulated int8": "simulated", "openvino-int8": "OpenVINO", "onnxruntime-int8": "ONNX Runtime"}


def main(options: Options) -> Findings:
    seeds = range(1 if options.smoke else 2 if options.quick else 5)
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for seed in seeds:
        options.say(f"{MODEL}: calibration seed {seed}")
        recipe = recipe_for(MODEL, INT8, samples=16 if options.smoke else SAMPLES, seed=seed, smoke=options.smoke)
        arguments = {"recipe": msgspec.to_builtins(recipe), "out": str(options.work / f"seed-{seed}")}
        step = run_step(f"bundles:{export_bundle.__name__}", arguments)
        runs[str(seed)] = {rung["name"]: rung for rung in step.result["rungs"] if rung["name"] in WHERE}
    worst = max(rung["points_lost"] for rungs in runs.values() for rung in rungs.values())
    target = Target(limit=0.3, quantity=POINTS)
    return Findings(
        figures=(figure(f"{MODEL}: most accuracy lost by any seed on any engine", worst, target),),
        tables=(_by_seed(runs), _summary(runs)),
        raw=runs,
    )


def _by_seed(runs: dict[str, dict[str, dict[str, Any]]]) -> Table:
    rows = []
    for seed, rungs in runs.items():
        for name, title in WHERE.items():
            rung = rungs[name]
            flips = rung["flips"]
            rows.append(
                (
                    seed,
                    title,
                    POINTS(rung["points_lost"]),
                    f"{flips['lost']} lost, {flips['gained']} gained, {flips['changed']} changed",
                    DECIBEL(rung["sqnr_db"]),
                    rung["verdict"],
                )
            )
    samples = next(iter(next(iter(runs.values())).values()))["samples"]
    return Table(
        title=f"{MODEL}, int8 against the float reference on {samples} held-out images",
        columns=("seed", "executed by", "accuracy lost", "flips", "logits' SQNR", "verdict"),
        rows=tuple(rows),
    )


def _summary(runs: dict[str, dict[str, dict[str, Any]]]) -> Table:
    rows = []
    for name, title in WHERE.items():
        lost = [rungs[name]["points_lost"] for rungs in runs.values()]
        close = [rungs[name]["sqnr_db"] for rungs in runs.values()]
        rows.append((title, POINTS(mean(lost)), POINTS(min(lost)), POINTS(max(lost)), DECIBEL(mean(close))))
    return Table(
        title=f"{MODEL}, over {len(runs)} seeds",
        columns=("executed by", "mean lost", "least", "most", "mean SQNR"),
        rows=tuple(rows),
    )
