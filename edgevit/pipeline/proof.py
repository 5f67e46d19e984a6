"""The ladder of one export: torch → ONNX float → Q/DQ simulated → each build, on the same evaluation samples.

The reference's outputs are computed once and kept (a few numbers per sample), so that neither torch's model nor more
than one stage is in memory at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph.execute import Executor
from edgevit.parity.compare import ComparisonOptions
from edgevit.parity.ladder import Stage, climb
from edgevit.parity.statistics import Margin
from edgevit.parity.verdict import Budget
from edgevit.pipeline.parts import WHOLE
from edgevit.runtime.selection import open_session, why_not_here
from edgevit.sets import batches
from edgevit.targets.base import OpenOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from edgevit.bundle import Bundle
    from edgevit.progress import Progress
    from edgevit.sets import Batch, SampleSet
    from edgevit.types import Arrays, Build, FloatModel, ImagePreprocess, OnnxModel, Rung


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation samples with the float reference's outputs for them."""

    samples: SampleSet
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    batch: int
    reference: Arrays
    """Outputs by name, first axis the samples."""

    def batches(self) -> Iterator[Batch]:
        return batches(self.samples, self.preprocess, self.batch, labels=self.labels if self.samples.labelled else None)

    def reference_of(self) -> Callable[[Arrays], Arrays]:
        """The reference as a function of the batches in order: it hands out the stored outputs."""
        position = 0

        def outputs(inputs: Arrays) -> Arrays:
            nonlocal position
            count = len(next(iter(inputs.values())))
            part = {name: values[position : position + count] for name, values in self.reference.items()}
            position += count
            return part

        return outputs


def reference_outputs(model: FloatModel, stream: Iterator[Batch], progress: Progress, total: int) -> Arrays:
    """The float32 reference's outputs for all batches, by name: PyTorch's, or ONNX Runtime's of an ONNX source."""
    if model.onnx is None:
        return torch_outputs(model, stream, progress, total)
    collected: dict[str, list[np.ndarray]] = {spec.name: [] for spec in model.signature.outputs}
    done = 0
    with Executor(model.onnx) as executor, progress.task("float reference", total) as advance:
        for batch in stream:
            for name, value in executor.run(batch.inputs).items():
                collected[name].append(value)
            done += len(batch)
            advance(done)
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def torch_outputs(model: FloatModel, stream: Iterator[Batch], progress: Progress, total: int) -> Arrays:
    """The float32 PyTorch model's outputs for all batches, by name."""
    import torch

    collected: dict[str, list[np.ndarray]] = {spec.name: [] for spec in model.signature.outputs}
    done = 0
    with progress.task("float reference", total) as advance, torch.no_grad():
        for batch in stream:
            inputs = [torch.from_numpy(batch.inputs[spec.name]) for spec in model.signature.inputs]
            outputs = model.module(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            for spec, value in zip(model.signature.outputs, outputs, strict=True):
                collected[spec.name].append(value.numpy())
            done += len(batch)
            advance(done)
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def without_labels(samples: SampleSet) -> SampleSet:
    """The same samples as an unlabelled set: labels say nothing about a model that was never trained."""
    return msgspec.structs.replace(
        samples,
        labels=(),
        samples=tuple(msgspec.structs.replace(sample, label=None) for sample in samples.samples),
    )


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
    """The rungs before any engine: the float graph, and the plan executed as written."""
    rungs = [_climbed("onnx", "float32", Executor(graphs[WHOLE].path), evaluation, options, progress)]
    if simulated:
        executor = Executor(simulated[WHOLE].path, exact=True)
        rungs.append(_climbed("simulated", "int8", executor, evaluation, options, progress))
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
        reason = why_not_here(build)
        if reason:
            stage = Stage(name=build.name, target=build.target, precision=build.precision, reason=reason)
            rungs.extend(climb(evaluation.batches(), evaluation.reference_of(), [stage], options))
            continue
        session = open_session(bundle, build, OpenOptions())
        try:
            stage = Stage(name=build.name, session=session, target=build.target, precision=build.precision)
            rungs.append(_rung(stage, evaluation, options, progress))
        finally:
            session.close()
    return tuple(rungs)


def _climbed(
    name: str,
    precision: str,
    executor: Executor,
    evaluation: Evaluation,
    options: ComparisonOptions,
    progress: Progress,
) -> Rung:
    context: AbstractContextManager[Executor] = executor
    with context as session:
        stage = Stage(name=f"{name} {precision}", session=session, precision=precision)
        return _rung(stage, evaluation, options, progress)


def _rung(stage: Stage, evaluation: Evaluation, options: ComparisonOptions, progress: Progress) -> Rung:
    with progress.task(f"parity of {stage.name}", len(evaluation.samples)) as advance:
        return climb(evaluation.batches(), evaluation.reference_of(), [stage], options, progress=advance)[0]
