"""What can be known of a build that this machine compiles and cannot execute: its layers and its numerics.

A target may offer two functions beside those of the `Target` protocol: `compiled(directory)` gives the `Execution` its
compiler announced, `simulate(directory, path)` writes an ONNX file that rounds as its engine does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.graph.execute import Executor
from edgevit.parity.ladder import Stage, climb
from edgevit.targets import get_target, parse_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgevit.parity.compare import ComparisonOptions
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.progress import Progress
    from edgevit.types import Build, Execution, Rung


def compiled_execution(build: Build, directory: Path) -> Execution | None:
    """What the compiler says it made, for a build that does not run here; None for a target that cannot say."""
    describe = getattr(get_target(build.target), "compiled", None)
    return None if describe is None else describe(directory)


def simulated_rungs(
    built: Mapping[str, Path], evaluation: Evaluation, options: ComparisonOptions, progress: Progress
) -> tuple[Rung, ...]:
    """A rung for each build whose rounding can be simulated, so that a float16 collapse is found without a GPU.

    `built` is target text (`tensorrt-rtx:int8`) to its stage. The rungs carry no target: the build itself stays *not
    executed*.
    """
    rungs: list[Rung] = []
    if evaluation.generation is not None:  # what simulates one graph would have to be run as two, in a loop
        return ()
    for text, place in built.items():
        name, precision = parse_target(text)
        simulate = getattr(get_target(name), "simulate", None)
        if simulate is None:
            continue
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            path = Path(folder) / "simulated.onnx"
            simulate(place / "files", path)
            title = f"simulated {name}-{precision}"
            with Executor(path, exact=True) as executor, progress.task(title, len(evaluation.samples)) as advance:
                stage = Stage(name=title, session=executor, precision=precision)
                reference = evaluation.reference_of()
                rungs.extend(climb(evaluation.batches(), reference, [stage], options, progress=advance))
    return tuple(rungs)
