"""What edgevit adds to an engine: to a call, to importing, and to the time from loading to the first result."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from bootstrap import median_of
from bundles import FLOAT, INT8, recipe_for
from models import ROOT
from processes import run_step
from record import (
    MICROSECONDS,
    MILLISECONDS,
    PERCENT,
    Figure,
    Findings,
    Options,
    Table,
    Target,
    figure,
    with_interval,
)

from edgevit.bundle import open_bundle
from edgevit.types import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevit.runtime import Model

MODELS = ("digits-vit", "vit-tiny-224")
TITLES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
CALL_MICROSECONDS, CALL_PERCENT = 50.0, 3.0
KEPT = 40
"""Calls per round and side in the recorded file."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int
    seconds: float
    """Of one round of calls."""
    imports: int
    starts: int


FULL = Settings(rounds=20, seconds=0.5, imports=20, starts=15)
QUICK = Settings(rounds=5, seconds=0.5, imports=5, starts=3)
SMOKE = Settings(rounds=2, seconds=0.05, imports=2, starts=1)


def main(options: Options) -> Findings:
    settings = SMOKE if options.smoke else QUICK if options.quick else FULL
    models = options.models or (MODELS[:1] if options.smoke else MODELS)
    builds: dict[str, Path] = {}
    for name in models:
        options.say(f"{name}: exporting")
        recipe = recipe_for(name, (*FLOAT, *INT8), samples=32, smoke=True)  # a plan's scales change no timing
        builds[name] = options.work / name
        run_step("bundles:export_bundle", {"recipe": msgspec.to_builtins(recipe), "out": str(builds[name])})
    calls = {}
    for name, bundle in builds.items():
        for target in (*FLOAT, *INT8):
            options.say(f"{name}: calls of {target}")
            arguments = {
                "bundle": str(bundle),
                "target": target,
                "rounds": settings.rounds,
                "seconds": settings.seconds,
            }
            calls[f"{name} {target}"] = run_step("overhead:time_calls", arguments).result
    options.say("imports")
    imports = _interleaved({"pass": _fresh("pass"), "edgevit": _fresh("import edgevit")}, settings.imports)
    starts = {}
    for name, bundle in builds.items():
        for target in INT8:
            options.say(f"{name}: first results of {target}")
            sides = {"edgevit": _load(bundle, target, edgevit=True), "engine": _load(bundle, target, edgevit=False)}
            starts[f"{name} {target}"] = _interleaved(sides, settings.starts)
    return _findings(calls, imports, starts)


# ---------------------------------------------------------------------------------------------------- calls


def time_calls(bundle: str, target: str, rounds: int, seconds: float) -> dict[str, list[list[int]]]:
    """Step: nanoseconds per call of `Model.run` and of the engine itself, in turn, by round."""
    import edgevit

    with edgevit.load(bundle, target) as model:
        spec = model.signature.inputs[0]
        shape = [1 if isinstance(size, str) else size for size in spec.shape]
        inputs = {spec.name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
        sides: dict[str, Callable[[Any], object]] = {"edgevit": model.run, "engine": engine_call(model)}
        for call in sides.values():
            for _ in range(20):
                call(inputs)
        gc.disable()
        return _in_turn(sides, inputs, rounds, seconds)


def engine_call(model: Model) -> Callable[[Any], object]:
    """What a person who knows the engine writes, on the very compiled model that `model` runs.

    The engine's own objects are reached through the session: a second compiled model would have threads and memory
    of its own, and the difference of two such copies is larger than what is measured here.
    """
    session: Any = model.session
    if model.build.target == "openvino":
        request = session._compiled.create_infer_request()
        return lambda inputs: request.infer(inputs, share_inputs=True)[0]
    engine = session._session
    return lambda inputs: engine.run(None, inputs)


def _in_turn(
    sides: dict[str, Callable[[Any], object]], inputs: Any, rounds: int, seconds: float
) -> dict[str, list[list[int]]]:
    """Both sides call by call, each going first every other time."""
    clock = time.perf_counter_ns
    times: dict[str, list[list[int]]] = {name: [] for name in sides}
    order = list(sides.items())
    for _ in range(rounds):
        for name in sides:
            times[name].append([])
        deadline = clock() + round(seconds * 1e9)
        while clock() < deadline:
            for name, call in order:
                start = clock()
                call(inputs)
                times[name][-1].append(clock() - start)
            order.reverse()
    return times


# ----------------------------------------------------------------------------------------------- processes


def _fresh(statement: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}"]


def _load(bundle: Path, target: str, *, edgevit: bool) -> list[str]:
    """A process that prints the monotonic time of its first result, by edgevit or by the engine's own few lines.

    The engine's lines ask for what the build executes its float layers in: compiling for bfloat16 takes longer.
    """
    manifest = open_bundle(bundle, check="manifest").manifest
    shape = [1, *(int(size) for size in manifest.signature.inputs[0].shape[1:])]
    inputs = f"{{'pixel_values': np.zeros({shape}, np.float32)}}"
    if edgevit:
        lines = ["import numpy as np, edgevit", f"edgevit.load({str(bundle)!r}, {target!r}).run({inputs})"]
    elif target.startswith("openvino"):
        build = next(build for build in manifest.builds if f"{build.target}:{build.precision}" == target)
        hint = build.options["float_layers"]
        lines = [
            "import numpy as np, openvino as ov",
            f"options = {{'INFERENCE_PRECISION_HINT': {hint!r}, 'PERFORMANCE_HINT': 'LATENCY'}}",
            f"compiled = ov.Core().compile_model({str(bundle / 'openvino-int8' / 'model.xml')!r}, 'CPU', options)",
            f"compiled.create_infer_request().infer({inputs}, share_inputs=True)",
        ]
    else:
        path = str(bundle / "onnxruntime-int8" / "model.onnx")
        lines = [
            "import numpy as np, onnxruntime as ort",
            f"session = ort.InferenceSession({path!r}, providers=['CPUExecutionProvider'])",
            f"session.run(None, {inputs})",
        ]
    return _fresh("\n".join((*lines, "import time; print(time.monotonic_ns())")))


def _interleaved(sides: dict[str, list[str]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each command: until the time it prints, or until it ends. One start of each is not counted.

    That start compiles whatever has no bytecode yet. An installed package has; a checkout has not where Python was
    told not to write it, and edgevit alone would then be compiled at every start.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides.items())
    with TemporaryDirectory(prefix="edgevit-bytecode-") as folder:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for repeat in range(repeats + 1):
            for name, command in order:
                began = time.monotonic_ns()
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                ended = int(done.stdout.split()[-1]) if done.stdout.strip() else time.monotonic_ns()
                if repeat:
                    times[name].append((ended - began) / 1e6)
            order.reverse()
    return times


# ------------------------------------------------------------------------------------------------- findings


def _findings(calls: Any, imports: Any, starts: Any) -> Findings:
    figures: list[Figure] = []
    call_rows, start_rows = [], []
    for label, sides in calls.items():
        engine, ours = (np.median([ns for part in sides[side] for ns in part]) / 1e3 for side in ("engine", "edgevit"))
        extra, interval = _difference_of_rounds(sides)
        figures.append(_call_figure(label, extra, 100 * extra / engine, interval))
        call_rows.append(
            (
                label,
                MICROSECONDS(engine),
                MICROSECONDS(ours),
                with_interval(MICROSECONDS, extra, interval),
                PERCENT(100 * extra / engine),
            )
        )
    value, interval = _difference(imports["edgevit"], imports["pass"])
    figures.append(figure("import edgevit, beyond Python's own start", value, _milliseconds(60), interval))
    for label, sides in starts.items():
        value, interval = _difference(sides["edgevit"], sides["engine"])
        figures.append(figure(f"{label}: first result, beyond the engine's own", value, _milliseconds(50), interval))
        start_rows.append((label, *(MILLISECONDS(float(np.median(sides[side]))) for side in ("engine", "edgevit"))))
    return Findings(
        figures=tuple(figures),
        tables=(
            Table(
                title="One call, batch 1: median of the engine's own and of Model.run, and the difference",
                columns=("model and build", "engine", "Model.run", "extra", "share"),
                rows=tuple(call_rows),
            ),
            Table(
                title="From the start of a process to the first result, median",
                columns=("model and build", "engine's own code", "edgevit.load and run"),
                rows=tuple(start_rows),
            ),
        ),
        raw={
            "calls_ns": {
                label: {side: [_thin(part) for part in rounds] for side, rounds in sides.items()}
                for label, sides in calls.items()
            },
            "import_ms": imports,
            "first_result_ms": starts,
        },
    )


def _call_figure(label: str, extra: float, percent: float, interval: Interval) -> Figure:
    return Figure(
        name=f"{label}: Model.run beyond the engine's call",
        target=f"at most {CALL_PERCENT:g} % or {CALL_MICROSECONDS:g} µs",
        measured=f"{with_interval(MICROSECONDS, extra, interval)}, {PERCENT(percent)}",
        value=extra,
        interval=interval,
        status="reached" if extra <= CALL_MICROSECONDS or percent <= CALL_PERCENT else "missed",
    )


def _milliseconds(limit: float) -> Target:
    return Target(limit=limit, quantity=MILLISECONDS)


def _difference_of_rounds(sides: dict[str, Sequence[Sequence[int]]]) -> tuple[float, Interval]:
    """Microseconds of edgevit's median call beyond the engine's: median over the rounds of their differences."""
    rounds = zip(sides["edgevit"], sides["engine"], strict=True)
    return median_of([float(np.median(ours) - np.median(engine)) / 1e3 for ours, engine in rounds])


def _difference(ours: Sequence[float], others: Sequence[float]) -> tuple[float, Interval]:
    """The median of the differences of neighbouring starts."""
    return median_of([one - other for one, other in zip(ours, others, strict=True)])


def _thin(part: Sequence[int]) -> list[int]:
    edges = np.linspace(0, len(part), min(KEPT, len(part)) + 1).astype(int)
    return [part[(low + high) // 2] for low, high in pairwise(edges.tolist())]
