"""Whether the memory of calibration depends on the number of samples: 32 against 512, each in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from models import read_lowered
from processes import run_step
from record import MEGABYTES, RATIO, SECONDS, Figure, Findings, Options, Table, Target, figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.types import Arrays

MODELS = ("vit-tiny-224", "vit-small-224")
COUNTS = (32, 512)
SMOKE_COUNTS = (8, 64)
BATCH = 4


def main(options: Options) -> Findings:
    models = options.models or (("digits-vit",) if options.smoke else MODELS)
    few, many = SMOKE_COUNTS if options.smoke else (32, 128) if options.quick else COUNTS
    figures: list[Figure] = []
    rows = []
    raw: dict[str, Any] = {}
    for name in models:
        options.say(f"{name}: lowering")
        folder = str(options.work / name)
        run_step("models:lower", {"name": name, "folder": folder})
        costs = {}
        for count in (few, many):
            options.say(f"{name}: calibrating on {count} samples")
            costs[count] = run_step("memory:calibrate_random", {"folder": folder, "samples": count}).cost
        ratio = costs[many].peak_process_bytes / costs[few].peak_process_bytes
        label = f"{name}: peak memory of calibration, {many} samples against {few}"
        figures.append(figure(label, ratio, Target(limit=1.1, quantity=RATIO)))
        rows += [
            (name, str(count), MEGABYTES(cost.peak_process_bytes), SECONDS(cost.seconds))
            for count, cost in costs.items()
        ]
        raw[name] = {str(count): msgspec.to_builtins(cost) for count, cost in costs.items()}
    table = Table(
        title="Calibration alone, images made on the fly",
        columns=("model", "samples", "peak memory", "time"),
        rows=tuple(rows),
    )
    return Findings(figures=tuple(figures), tables=(table,), raw=raw)


def calibrate_random(folder: str, samples: int) -> int:
    """Step: calibrates on `samples` random images; returns how many it saw."""
    from edgevit.quantize.calibrate import CalibrationOptions, calibrate

    lowered = read_lowered(folder)
    options = CalibrationOptions(set_name="random", set_digest="random")
    return calibrate(lowered.onnx, _random_batches(lowered.onnx.signature.inputs[0], samples), options).samples


def _random_batches(spec: Any, samples: int) -> Iterator[Arrays]:
    random = np.random.default_rng(0)
    for start in range(0, samples, BATCH):
        shape = (min(BATCH, samples - start), *spec.shape[1:])
        yield {spec.name: random.standard_normal(shape, dtype=np.float32)}
