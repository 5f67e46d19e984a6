"""Evaluation samples with what the float32 reference made of them.

The reference's outputs are computed once and kept (a few numbers per sample; of a translation its tokens and their
logits, on disk), so that neither torch's model nor more than one stage is in memory at a time.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import InputError
from edgevit.graph.execute import Executor
from edgevit.parity.sequences import Written, forced
from edgevit.pipeline.feeding import source_tokenizer, target_tokenizer
from edgevit.pipeline.translators import TorchTranslator, settings_of
from edgevit.sets import batches, raw_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from edgevit.parity.sequences import Translator
    from edgevit.pipeline.workbench import Workbench
    from edgevit.preprocess import Tokenizer
    from edgevit.progress import Progress
    from edgevit.recipe import Recipe
    from edgevit.sets import Batch, SampleSet
    from edgevit.types import Arrays, FloatModel, Generation, Preprocess

TOKENS, LENGTHS, LOGITS = "tokens", "lengths", "logits"
"""What is stored of a reference's translations: the ids of all texts in order, how many each has, and for each id the
logits it was chosen from."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation samples with the float reference's outputs for them."""

    samples: SampleSet
    preprocess: Preprocess
    labels: tuple[str, ...]
    batch: int
    reference: Arrays
    """Outputs by name, first axis the samples; of translations `TOKENS`, `LENGTHS` and, if known, `LOGITS`."""
    tokenizer: Tokenizer | None = None
    """Of texts: the source's."""
    target: Tokenizer | None = None
    """Of translations: what the written ids mean."""
    generation: Generation | None = None

    def batches(self) -> Iterator[Batch]:
        known = self.samples.labelled and bool(self.samples.labels)
        return batches(
            self.samples,
            self.preprocess,
            self.batch,
            labels=self.labels if known else None,
            tokenizer=self.tokenizer,
        )

    def raw_batches(self) -> Iterator[Batch]:
        """The same samples as raw images of whatever size, for builds with the preprocessing inside."""
        known = self.samples.labelled and bool(self.samples.labels)
        return raw_batches(self.samples, self.batch, labels=self.labels if known else None)

    def reference_of(self) -> Callable[[Arrays], Arrays]:
        """The reference as a function of the batches in order: it hands out the stored outputs."""
        position = 0

        def outputs(inputs: Arrays) -> Arrays:
            nonlocal position
            shape = next(iter(inputs.values())).shape
            part = {name: values[position : position + shape[0]] for name, values in self.reference.items()}
            position += shape[0]
            # Texts of several batches are stored as wide as the longest: what stands behind a batch's own is padding.
            return {name: self._trimmed(values, shape) for name, values in part.items()}

        return outputs

    def _trimmed(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return values if self.tokenizer is None or values.ndim < 3 else values[:, : shape[1]]

    def written(self) -> Iterator[Written]:
        """Of translations: the batches in order with what the reference wrote."""
        lengths = self.reference[LENGTHS]
        ends = np.cumsum(lengths)
        logits = self.reference.get(LOGITS)
        position = 0
        for batch in self.batches():
            rows = slice(position, position + len(batch))
            first = int(ends[position] - lengths[position])
            last = int(ends[rows.stop - 1])
            ids = np.split(self.reference[TOKENS][first:last], np.cumsum(lengths[rows])[:-1])
            yield Written(
                names=batch.names,
                inputs=batch.inputs,
                truths=[label if isinstance(label, str) else None for label in batch.labels],
                lengths=batch.lengths or (),
                ids=[tuple(text.tolist()) for text in ids],
                logits=None if logits is None else logits[first:last],
            )
            position = rows.stop


def without_labels(samples: SampleSet) -> SampleSet:
    """The same samples as an unlabelled set: their truth says nothing about a model that was never trained."""
    return msgspec.structs.replace(
        samples,
        labels=(),
        samples=tuple(
            msgspec.structs.replace(sample, label=None, tags=None, target=None) for sample in samples.samples
        ),
    )


def evaluated(
    bench: Workbench, model: FloatModel, samples: SampleSet, recipe: Recipe, progress: Progress
) -> Evaluation:
    """The samples with the reference's outputs, computed or of an earlier run over the same."""
    size = recipe.evaluation.batch
    evaluation = Evaluation(
        samples=samples if model.trained else without_labels(samples),
        preprocess=model.preprocess,
        labels=model.labels,
        batch=size,
        reference={},
        tokenizer=source_tokenizer(model),
        target=target_tokenizer(model),
        generation=None if model.generation is None else settings_of(model),
    )

    def produce(folder: Path) -> None:
        if model.generation is not None:
            with progress.task("float reference", len(samples)) as advance:
                translator = TorchTranslator(model, settings_of(model))
                write_translations(evaluation, translator, folder, advance)
            return
        outputs = reference_outputs(model, evaluation.batches(), progress, len(samples))
        np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]

    inputs: dict[str, object] = {
        "source": model.digest,
        "preprocess": msgspec.to_builtins(model.preprocess),
        "set": samples.digest,
        "batch": size,
        "torch": version("torch"),
    }
    if model.generation is not None:
        inputs["generation"] = msgspec.to_builtins(model.generation)
    folder = bench.stage("reference", inputs, produce)
    return msgspec.structs.replace(evaluation, reference=load_reference(folder))


def load_reference(folder: Path) -> Arrays:
    """What a stage stored: outputs by name, or translations, whose logits stay on disk."""
    if (folder / f"{LOGITS}.npy").exists():
        names = (TOKENS, LENGTHS, LOGITS)
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def write_translations(
    evaluation: Evaluation, translator: Translator, folder: Path, progress: Callable[[int], None]
) -> None:
    """What `translator` writes for every sample, and the logits of it, as .npy files: not all need fit in memory."""
    written: list[tuple[int, ...]] = []
    for batch in evaluation.batches():
        written += translator.generate(batch.inputs)
        progress(len(written) // 2)
    tokens, lengths = flat(written)
    np.save(folder / f"{TOKENS}.npy", tokens, allow_pickle=False)
    np.save(folder / f"{LENGTHS}.npy", lengths, allow_pickle=False)
    known = msgspec.structs.replace(evaluation, reference={TOKENS: tokens, LENGTHS: lengths})
    store: np.ndarray | None = None
    done = 0
    for texts, logits in forced_logits(known, translator):
        if store is None:
            shape = (len(tokens), logits.shape[-1])
            store = np.lib.format.open_memmap(folder / f"{LOGITS}.npy", "w+", np.float32, shape)
        store[done : done + len(logits)] = logits
        done += len(logits)
        progress((len(written) + texts) // 2)


def forced_logits(evaluation: Evaluation, translator: Translator) -> Iterator[tuple[int, np.ndarray]]:
    """For each batch the number of samples so far, and the logits of the reference's tokens."""
    settings = evaluation.generation
    assert settings is not None
    done = 0
    for batch in evaluation.written():
        done += len(batch.names)
        yield done, forced(translator, batch, settings.start_token_id, settings.pad_token_id)


def flat(texts: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all texts one after the other, and how many each has."""
    lengths = np.array([len(ids) for ids in texts], dtype=np.int64)
    if not lengths.all():
        raise InputError("expected at least one token for every source, found a model that wrote none")
    return np.array([token for ids in texts for token in ids], dtype=np.int64), lengths


def reference_outputs(model: FloatModel, stream: Iterator[Batch], progress: Progress, total: int) -> Arrays:
    """The float32 reference's outputs for all batches, by name: PyTorch's, or ONNX Runtime's of an ONNX source."""
    if model.onnx is None:
        return _torch_outputs(model, stream, progress, total)
    collected: dict[str, list[np.ndarray]] = {spec.name: [] for spec in model.signature.outputs}
    done = 0
    with Executor(model.onnx) as executor, progress.task("float reference", total) as advance:
        for batch in stream:
            for name, value in executor.run(batch.inputs).items():
                collected[name].append(value)
            done += len(batch)
            advance(done)
    return {name: joined(parts) for name, parts in collected.items()}


def _torch_outputs(model: FloatModel, stream: Iterator[Batch], progress: Progress, total: int) -> Arrays:
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
    return {name: joined(parts) for name, parts in collected.items()}


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Batches one after the other; those of shorter texts are filled up with zeros along the length."""
    longest = max((part.shape[1] for part in parts if part.ndim == 3), default=0)
    if longest:
        parts = [np.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0))) for part in parts]
    return np.concatenate(parts)
