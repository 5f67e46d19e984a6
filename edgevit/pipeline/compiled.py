"""What can be known of a build that this machine compiles and cannot execute: its layers and its numerics.

A target may offer two functions beside those of the `Target` protocol: `compiled(directory)` gives the `Execution` its
compiler announced, `simulate(directory, path)` writes an ONNX file that rounds as its engine does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.graph import storage
from edgevit.parity.ladder import Stage
from edgevit.pipeline.parts import WHOLE
from edgevit.pipeline.proof import graphs_rung
from edgevit.runtime.parts import DECODER, ENCODER, merged_executions
from edgevit.targets import get_target, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgevit.parity.compare import ComparisonOptions
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.progress import Progress
    from edgevit.types import Build, Execution, OnnxModel, Rung


def compiled_execution(build: Build, directory: Path) -> Execution | None:
    """What the compiler says it made, for a build that does not run here; None for a target that cannot say."""
    describe: Callable[[Path], Execution | None] | None = getattr(get_target(build.target), "compiled", None)
    if describe is None:
        return None
    if not build.parts:
        return describe(directory)
    said = {part.name: describe(directory / part.name) for part in build.parts}
    known = {name: execution for name, execution in said.items() if execution is not None}
    return merged_executions(known) if len(known) == len(said) else None


def simulated_rungs(
    built: Mapping[str, Path], evaluation: Evaluation, options: ComparisonOptions, progress: Progress
) -> tuple[Rung, ...]:
    """A rung for each build whose rounding can be simulated, so that a float16 collapse is found without a GPU.

    `built` is target text (`tensorrt-rtx:int8`) to its stage. The rungs carry no target: the build itself stays *not
    executed*.
    """
    rungs: list[Rung] = []
    for text, place in built.items():
        name, precision = parse_target(text)
        simulate = getattr(get_target(name), "simulate", None)
        if simulate is None:
            continue
        parts = (WHOLE,) if evaluation.generation is None else (ENCODER, DECODER)
        stage = Stage(name=f"simulated {name}-{precision}", precision=precision)
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            graphs = {part: _simulated(simulate, place / "files" / part, Path(folder) / part) for part in parts}
            rungs.append(graphs_rung(stage, graphs, evaluation, options, progress))
    return tuple(rungs)


def _simulated(simulate: Callable[[Path, Path], None], files: Path, folder: Path) -> OnnxModel:
    folder.mkdir(exist_ok=True)
    path = folder / "simulated.onnx"
    simulate(files, path)
    return storage.describe(storage.load(path), path)
