"""What the small trained models of texts get right, float32 and int8, by the length of a phrase, and how fast.

Their accuracy is that of their export's parity, on all held-out phrases; their speed is that of `Model.predict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bootstrap import median_of
from bundles import export_texts
from processes import run_step
from record import MEGABYTES, MILLISECONDS, Findings, Options, Table, with_interval
from tokens import FLOAT, INT8, RATE

from edgevit.report.data import read_report
from edgevit.zoo.catalog import PHRASES

TARGETS = ("openvino:float32", "openvino:int8")
TEXTS = 200
"""Held-out phrases that are timed."""


def main(options: Options) -> Findings:
    names = options.models or (("tags-rnn", "phrases-transformer") if options.smoke else PHRASES)
    bundles = {name: export_texts(name, options, TARGETS) for name in names}
    count = 4 if options.smoke else TEXTS
    results = {name: _results(name, bundle, count, options) for name, bundle in bundles.items()}
    return Findings(figures=(), tables=(results_table(results), lengths_table(results)), raw={"results": results})


def _results(name: str, bundle: Path, count: int, options: Options) -> dict[str, Any]:
    """Of one small model: what its parity report says and how fast its results come, by build."""
    parity = read_report(bundle / "report.json").parity
    rungs = {rung.name: msgspec.to_builtins(rung) for rung in (parity.rungs if parity else ())}
    found = {}
    for build in (FLOAT, INT8):
        options.say(f"{name}: results of {build}")
        arguments = {"bundle": str(bundle), "target": build, "count": count}
        rung = rungs.get(build) or {}
        kept = {"verdict": "", "task": None, "scores": [], "lengths": []}
        found[build] = {
            **run_step("loops:time_results", arguments).result,
            **{key: rung.get(key, default) for key, default in kept.items()},
        }
    return found


def results_table(results: dict[str, Any]) -> Table:
    rows = []
    for name, builds in results.items():
        for build, found in builds.items():
            task = found["task"] or {}
            value, interval = median_of(np.asarray(found["single_ms"]))
            rows.append(
                (
                    name,
                    build.removeprefix("openvino-"),
                    f"{task['build']:.1f} % {task['metric']}" if task else "",
                    bleu(found),
                    MEGABYTES(found["size"]),
                    with_interval(MILLISECONDS, value, interval),
                    RATE(found["per_second"]),
                    found["verdict"],
                )
            )
    return Table(
        title="The small models on held-out phrases, OpenVINO: one phrase at a time, and all of them as one list",
        columns=("model", "build", "right", "BLEU", "size", "latency", "phrases", "verdict"),
        rows=tuple(rows),
    )


def bleu(found: dict[str, Any]) -> str:
    return next((f"{score['build']:.1f}" for score in found["scores"] if score["metric"] == "BLEU"), "")


def lengths_table(results: dict[str, Any]) -> Table:
    """Percent right by the length of the phrase, float32 and int8."""
    every = [found for builds in results.values() for found in builds.values()]
    bins = sorted({(one["low"], one["high"]) for found in every for one in found["lengths"]})
    rows = []
    for name, builds in results.items():
        for build, found in builds.items():
            right = {(one["low"], one["high"]): one["build"] for one in found["lengths"]}
            cells = (f"{right[place]:.1f} %" if place in right else "" for place in bins)
            rows.append((name, build.removeprefix("openvino-"), *cells))
    return Table(
        title="The same by the length of the phrase in tokens: percent right",
        columns=("model", "build", *(f"{low} to {high}" for low, high in bins)),
        rows=tuple(rows),
    )
