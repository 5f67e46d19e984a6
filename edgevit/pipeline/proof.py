"""The ladder of one export: torch → ONNX float → Q/DQ simulated → each build, on the same evaluation samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.graph.execute import Executor
from edgevit.parity.compare import ComparisonOptions
from edgevit.parity.ladder import Stage, climb, unjudged
from edgevit.parity.sequences import SequenceOptions, compare_sequences
from edgevit.parity.statistics import Margin
from edgevit.parity.verdict import Budget
from edgevit.pipeline.parts import WHOLE
from edgevit.pipeline.pixels import fed, pixel_difference
from edgevit.pipeline.translators import Graphs, SessionTranslator
from edgevit.runtime.parts import PartsSession
from edgevit.runtime.selection import open_session, why_not_here
from edgevit.runtime.translate import written
from edgevit.targets.base import OpenOptions

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.parity.ladder import Runnable
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.progress import Progress
    from edgevit.targets.base import EngineSession
    from edgevit.types import Build, OnnxModel, Rung


def comparison(task: str, trained: bool, budget: float, labels: tuple[str, ...], output: str) -> ComparisonOptions:
    return msgspec.convert(
        {
            "task": task,
            "trained": trained,
            "budget": msgspec.to_builtins(Budget(margin=Margin(points=budget))),
            "classes": labels,
            "output": output,
        },
        ComparisonOptions,
    )


def stage_rungs(
    graphs: dict[str, OnnxModel],
    simulated: dict[str, OnnxModel],
    evaluation: Evaluation,
    options: ComparisonOptions,
    progress: Progress,
) -> tuple[Rung, ...]:
    """The rungs before any engine: the float graphs, and the plan executed as written."""
    float_stage = Stage(name="onnx float32", precision="float32")
    rungs = [graphs_rung(float_stage, graphs, evaluation, options, progress)]
    if simulated:
        stage = Stage(name="simulated int8", precision="int8")
        rungs.append(graphs_rung(stage, simulated, evaluation, options, progress))
    return tuple(rungs)


def build_rungs(
    bundle: Bundle,
    evaluation: Evaluation,
    options: ComparisonOptions,
    progress: Progress,
    builds: tuple[Build, ...] | None = None,
) -> tuple[Rung, ...]:
    """One rung per build of the bundle; what cannot be trusted to run here is listed as not executed, with why."""
    rungs: list[Rung] = []
    for build in bundle.manifest.builds if builds is None else builds:
        stage = stage_of(build)
        reason = why_not_here(build)
        if reason:
            rungs.append(unjudged(stage, 0, "not executed", reason))
            continue
        session = open_session(bundle, build, OpenOptions())
        try:
            if build.takes_pixels:
                rungs.append(_pixel_rung(stage, (bundle, build, session), evaluation, options, progress))
            else:
                rungs.append(session_rung(stage, session, evaluation, options, progress))
        finally:
            session.close()
    return tuple(rungs)


def stage_of(build: Build) -> Stage:
    """The build on the ladder, not opened yet."""
    return Stage(name=build.name, target=build.target, precision=build.precision)


def _pixel_rung(
    stage: Stage,
    opened: tuple[Bundle, Build, EngineSession],
    evaluation: Evaluation,
    options: ComparisonOptions,
    progress: Progress,
) -> Rung:
    """The rung of a build that reads raw images, with what its own preprocessing makes of them."""
    bundle, build, session = opened
    runnable, stream = fed(evaluation, build, session)
    stage = msgspec.structs.replace(stage, session=runnable)
    with progress.task(f"parity of {stage.name} on raw images", len(evaluation.samples)) as advance:
        found = climb(stream, evaluation.reference_of(), [stage], options, progress=advance)[0]
    return msgspec.structs.replace(found, preprocessing=pixel_difference(bundle, build, evaluation.samples))


def session_rung(
    stage: Stage, session: Runnable, evaluation: Evaluation, options: ComparisonOptions, progress: Progress
) -> Rung:
    """The rung of one opened stage: of its outputs, or of what an encoder and a decoder write."""
    with progress.task(f"parity of {stage.name}", len(evaluation.samples)) as advance:
        if isinstance(session, PartsSession) and evaluation.generation is not None:
            translator = SessionTranslator(session, evaluation.generation)
            how = sequence_options(evaluation, options)
            return compare_sequences(evaluation.written(), stage, translator, how, advance)
        stage = msgspec.structs.replace(stage, session=session)
        return climb(evaluation.batches(), evaluation.reference_of(), [stage], options, progress=advance)[0]


def sequence_options(evaluation: Evaluation, options: ComparisonOptions) -> SequenceOptions:
    """How translations are compared: with the settings and the vocabulary of the evaluation."""
    settings, target = evaluation.generation, evaluation.target
    assert settings is not None
    assert target is not None
    return SequenceOptions(
        comparison=options,
        start=settings.start_token_id,
        pad=settings.pad_token_id,
        decode=lambda ids: written(tuple(ids), target, settings),
    )


def graphs_rung(
    stage: Stage,
    graphs: dict[str, OnnxModel],
    evaluation: Evaluation,
    options: ComparisonOptions,
    progress: Progress,
) -> Rung:
    """The rung of a model's graphs, by part, executed in ONNX Runtime; all but float32 without optimizations."""
    exact = stage.precision != "float32"
    if WHOLE in graphs:
        with Executor(graphs[WHOLE].path, exact=exact) as executor:
            return session_rung(stage, executor, evaluation, options, progress)
    with Graphs(graphs, exact=exact) as opened:
        return session_rung(stage, opened.session, evaluation, options, progress)
