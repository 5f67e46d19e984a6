"""Engines for NVIDIA's cards, compiled without one: time and size by precision and architecture, and what their
rounding costs, simulated in ONNX Runtime. Nothing is executed on a GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from models import held_out, lower, read_lowered
from processes import run_step
from record import DECIBEL, MEGABYTES, PERCENT, SECONDS, Figure, Findings, Options, Table, Target, figure

from edgevit.types import QuantPlan

if TYPE_CHECKING:
    from edgevit.targets.base import BuildSource
    from edgevit.types import Precision

MODELS = ("digits-vit", "vit-tiny-224", "vit-small-224", "vit-base-224", "vit-large-224")
SMOKE_MODELS = ("digits-vit",)
ARCHITECTURES = ("sm75", "sm80", "sm86", "sm89", "sm120")
EVERY = ("sm80", "sm86", "sm89", "sm120")
TOGETHER = {"float8": ("sm89", "sm120")}
"""The engine for several cards, where not all execute the precision."""
FEWER = {"vit-large-224": ("sm86", "sm120")}
"""Each engine of a ViT-L takes ten seconds, and the cards hardly differ."""
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "float8", "int8", "int4w")
CALIBRATED, COMPARED = 8, 8
"""Images; the plan of a model that is not trained says little, whatever it is calibrated on."""


def main(options: Options) -> Findings:
    names = options.models or (SMOKE_MODELS if options.smoke else MODELS)
    raw: dict[str, Any] = {}
    for name in names:
        folder = str(options.work / name)
        options.say(f"{name}: lowering and planning")
        run_step("nvidia:prepared", {"name": name, "folder": folder})
        cards = ["sm75", "sm86"] if options.smoke else list(FEWER.get(name, ARCHITECTURES))
        raw[name] = {}
        for precision in PRECISIONS:
            options.say(f"{name}: compiling {precision}")
            given = {"folder": folder, "precision": precision, "cards": cards}
            step = run_step("nvidia:compiled", given)
            raw[name][precision] = {**step.result, "peak_bytes": step.cost.peak_process_bytes}
    return Findings(figures=tuple(_figures(raw)), tables=(_costs(raw), _cards(raw), _numerics(raw)), raw=raw)


def _figures(raw: dict[str, Any]) -> list[Figure]:
    """The share of layers that are compiled as the plan wants them."""
    figures = []
    for precision in ("int8", "float8"):
        shares = [found[precision]["compiled"] / found[precision]["requested"] for found in raw.values()]
        name = f"layers compiled in {precision}, of those the plan wants so, least of all models"
        figures.append(figure(name, 100 * min(shares), Target(limit=100.0, quantity=PERCENT, at_least=True)))
    return figures


def _costs(raw: dict[str, Any]) -> Table:
    rows = [
        (
            name,
            precision,
            SECONDS(one["together"]["seconds"]),
            MEGABYTES(one["together"]["bytes"]),
            one["kernels"],
            MEGABYTES(one["peak_bytes"]),
        )
        for name, found in raw.items()
        for precision, one in found.items()
    ]
    return Table(
        title="One engine for sm80, sm86, sm89 and sm120 (float8: sm89 and sm120), batch 1 to 8",
        columns=("model", "precision", "build time", "engine", "products and attentions", "peak memory"),
        rows=tuple(rows),
        note="Build time is that of the builder alone, from the prepared ONNX to the serialized engine.",
    )


def _cards(raw: dict[str, Any]) -> Table:
    rows = []
    for name, found in raw.items():
        for precision, one in found.items():
            rows.append((name, precision, *(_cell(one["cards"], card) for card in ARCHITECTURES)))
    return Table(
        title="An engine for one architecture: build time and size",
        columns=("model", "precision", *ARCHITECTURES),
        rows=tuple(rows),
        note="–: the architecture does not execute the precision. Empty: not compiled for it alone.",
    )


def _cell(cards: dict[str, Any], card: str) -> str:
    if card not in cards:
        return ""
    found = cards[card]
    return f"{SECONDS(found['seconds'])}, {MEGABYTES(found['bytes'])}" if found else "–"


def _numerics(raw: dict[str, Any]) -> Table:
    rows = [
        (name, *(DECIBEL(found[precision]["sqnr_db"]) if precision in found else "–" for precision in PRECISIONS))
        for name, found in raw.items()
    ]
    return Table(
        title="Simulated SQNR of the logits against the float32 graph",
        columns=("model", *PRECISIONS),
        rows=tuple(rows),
        note=f"{COMPARED} held-out images, a plan of min-max ranges without a search. All models but digits-vit are "
        "untrained. Every operator rounds its result, as the prepared graph says; fused ones round less often.",
    )


# --------------------------------------------------------------------------------------------------- steps


def prepared(name: str, folder: str) -> None:
    """Step: lowers the zoo's model `name` into `folder`, plans it without a search and writes its Q/DQ."""
    from edgevit.quantize.calibrate import CalibrationOptions, calibrate
    from edgevit.quantize.planner import PlanOptions, make_plan
    from edgevit.quantize.write_onnx import write_quantized
    from edgevit.sets import batches, open_set, take

    lower(name, folder)
    lowered = read_lowered(folder)
    samples = take(open_set(lowered.calibration), CALIBRATED, 0)
    stream = (batch.inputs for batch in batches(samples, lowered.model.preprocess, 4))
    stats = calibrate(lowered.onnx, stream, CalibrationOptions(set_name=samples.name, set_digest=samples.digest))
    unsearched = PlanOptions(ranges="min-max", weights="min-max", equalize=frozenset())
    plan = make_plan(lowered.onnx, stats, unsearched)
    write_quantized(lowered.onnx, plan, Path(folder, "quantized.onnx"))
    Path(folder, "plan.json").write_bytes(msgspec.json.encode(plan))


def compiled(folder: str, precision: Precision, cards: list[str]) -> dict[str, Any]:
    """Step: one engine for several cards and one for each of `cards`; of the first its layers, and its rounding."""
    from edgevit.targets.nvidia.log_table import count_kernels, read_execution
    from edgevit.targets.nvidia.prepare import choose_floats, prepare

    floats = choose_floats(precision, None)
    path = Path(folder, f"{precision}.onnx")
    layers = prepare(_source(folder), precision, floats, path)
    log, together = _built(folder, path, TOGETHER.get(precision, EVERY))
    execution = read_execution(log, layers, "")
    return {
        "together": together,
        "cards": {
            card: _built(folder, path, (card,))[1] if _executes(precision, floats, card) else None for card in cards
        },
        "kernels": ", ".join(f"{count} {kind}" for kind, count in count_kernels(log).items()),
        "requested": execution.quantized_requested,
        "compiled": execution.quantized_executed,
        "layers": len(execution.layers),
        "sqnr_db": _simulated(folder, path),
    }


def _source(folder: str) -> BuildSource:
    from edgevit.graph import storage
    from edgevit.targets.base import BuildSource

    path = Path(folder, "quantized.onnx")
    plan = msgspec.json.decode(Path(folder, "plan.json").read_bytes(), type=QuantPlan)
    quantized = storage.describe(storage.load(path), path)
    return BuildSource(float_model=None, onnx=read_lowered(folder).onnx, quantized=quantized, plan=plan)


def _executes(precision: Precision, floats: str, card: str) -> bool:
    from edgevit.errors import InputError
    from edgevit.targets.nvidia.architectures import check_precision

    try:
        check_precision(precision, floats, (card,))
    except InputError:
        return False
    return True


def _built(folder: str, path: Path, cards: tuple[str, ...]) -> tuple[str, dict[str, float]]:
    """The builder's log, its seconds and the engine's bytes."""
    import tensorrt_rtx_bindings

    from edgevit.targets.nvidia.network import NetworkOptions, build_engine
    from edgevit.targets.nvidia.profiles import parse_profile

    signature = read_lowered(folder).signature
    options = NetworkOptions(profile=parse_profile("batch:1:1:8", signature), architectures=cards)
    began = time.perf_counter()
    engine = build_engine(tensorrt_rtx_bindings, path, signature, options)
    return engine.log, {"seconds": time.perf_counter() - began, "bytes": len(engine.engine)}


def _simulated(folder: str, path: Path) -> float:
    """SQNR of the logits, dB, of the graph at `path` rounded as its engine rounds, against the float32 graph."""
    from edgevit.graph.execute import Executor
    from edgevit.parity.metrics import sqnr_db
    from edgevit.targets.nvidia.simulation import write_simulation

    lowered = read_lowered(folder)
    output = lowered.signature.outputs[0].name
    simulated = Path(folder, "simulated.onnx")
    write_simulation(path, simulated)
    with Executor(lowered.onnx.path) as floating, Executor(simulated, exact=True) as rounding:
        pairs = [
            [executor.run(batch.inputs)[output] for executor in (floating, rounding)]
            for batch in held_out(lowered, COMPARED, 4)
        ]
    reference, found = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return float(sqnr_db(reference, found))
