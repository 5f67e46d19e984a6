"""A set as a stream of model inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import SetError
from edgevit.preprocess import check_preprocess, image_tensor
from edgevit.sets.reading import WORKERS, read_each
from edgevit.sets.select import label_indices

if TYPE_CHECKING:
    from edgevit.sets.sample import Sample, SampleSet
    from edgevit.types import Arrays, FloatArray, ImagePreprocess


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Consecutive samples of a set, ready for a model."""

    names: tuple[str, ...]
    labels: tuple[int | None, ...]
    """Index of the true label among the model's labels; None for an unlabelled set."""
    inputs: Arrays
    """One array, named by `ImagePreprocess.input`: float32 (samples, channels, height, width)."""

    def __len__(self) -> int:
        return len(self.names)


def batches(
    samples: SampleSet,
    preprocess: ImagePreprocess,
    batch_size: int,
    *,
    labels: Sequence[str] | None = None,
    workers: int = WORKERS,
) -> Iterator[Batch]:
    """The set in its order, `batch_size` samples at a time; the last batch may be smaller.

    `labels` are the model's; without them the set's own are taken. Images are decoded by `workers` threads (0: by
    the caller's) at most one batch and one image per worker ahead, so memory depends on the batch, not on the set.
    Raises SetError at once for wrong arguments and for labels the model does not have, and while iterating when an
    image cannot be read, with the number of all such images; PreprocessError for a wrong specification.
    """
    if batch_size < 1 or workers < 0:
        raise SetError(f"expected batch_size of at least 1 and workers of at least 0, found {batch_size} and {workers}")
    check_preprocess(preprocess)
    truth = label_indices(samples, samples.labels if labels is None else labels)
    return _stream(samples, preprocess, batch_size, truth, workers)


def _stream(
    samples: SampleSet, preprocess: ImagePreprocess, batch_size: int, truth: tuple[int | None, ...], workers: int
) -> Iterator[Batch]:
    def tensor(sample: Sample) -> FloatArray:
        return image_tensor(sample.image(), preprocess)

    tensors = read_each(samples.name, samples.samples, tensor, workers, batch_size + workers)
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        stacked = np.stack(list(islice(tensors, batch_size)))
        names = tuple(sample.name for sample in samples.samples[part])
        yield Batch(names=names, labels=truth[part], inputs={preprocess.input: stacked})
