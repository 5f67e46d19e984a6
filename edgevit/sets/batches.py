"""A set as a stream of model inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import SetError
from edgevit.preprocess import check_preprocess, check_text_preprocess, image_tensor, padded, raw_pixels, tokenize
from edgevit.sets.prepared import tensor_of
from edgevit.sets.reading import WORKERS, read_each
from edgevit.sets.select import label_indices, label_places
from edgevit.types import PIXELS, UNTAGGED, TextPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.preprocess import Tokenizer, Tokens
    from edgevit.sets.sample import Sample, SampleSet
    from edgevit.types import Arrays, FloatArray, ImagePreprocess, Preprocess


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Consecutive samples of a set, ready for a model."""

    names: tuple[str, ...]
    labels: Sequence[int | None] | NDArray[np.int64] | Sequence[str | None]
    """Index of the true label among the model's labels; of tags int64 (samples, length), `UNTAGGED` where a token has
    none; of translations the text. None for each sample of an unlabelled set."""
    inputs: Arrays
    """One array, named by `ImagePreprocess.input`: float32 (samples, channels, height, width). Of texts two, named by
    `TextPreprocess`: int64 (samples, length). Of raw images one, `PIXELS`: objects (samples,), see `raw_batches`."""
    words: NDArray[np.bool_] | None = None
    """Of texts: (samples, length), whether a token is the first of a word."""
    lengths: tuple[int, ...] | None = None
    """Of texts: tokens of each, special tokens included."""

    def __len__(self) -> int:
        return len(self.names)


def batches(
    samples: SampleSet,
    preprocess: Preprocess,
    batch_size: int,
    *,
    labels: Sequence[str] | None = None,
    workers: int = WORKERS,
    tokenizer: Tokenizer | None = None,
) -> Iterator[Batch]:
    """The set in its order, `batch_size` samples at a time; the last batch may be smaller.

    `labels` are the model's; without them the set's own are taken. Images are decoded by `workers` threads (0: by
    the caller's) at most one batch and one image per worker ahead, so memory depends on the batch, not on the set.
    Texts need the model's `tokenizer`.
    Raises SetError at once for wrong arguments, for samples of another kind than the model's and for labels it does not
    have, and while iterating when a sample cannot be read, with the number of all such samples; PreprocessError for a
    wrong specification.
    """
    if batch_size < 1 or workers < 0:
        raise SetError(f"expected batch_size of at least 1 and workers of at least 0, found {batch_size} and {workers}")
    reads = "text" if isinstance(preprocess, TextPreprocess) else "image"
    prepared = samples.kind == "tensor" and reads == "image"
    if samples.kind != reads and not prepared:
        raise SetError(
            f"set {samples.name!r}: expected {reads}s, which the model reads, found {samples.kind}s; give another SET"
        )
    known = samples.labels if labels is None else labels
    if isinstance(preprocess, TextPreprocess):
        if tokenizer is None:
            raise SetError(f"set {samples.name!r}: expected the model's tokenizer for a set of texts, found none")
        check_text_preprocess(preprocess)
        return _texts(samples, _Texts(preprocess, tokenizer, label_places(samples, known)), batch_size)
    check_preprocess(preprocess)
    truth = label_indices(samples, known)
    return _images(samples, preprocess, batch_size, truth, workers)


def raw_batches(
    samples: SampleSet, batch_size: int, *, labels: Sequence[str] | None = None, workers: int = WORKERS
) -> Iterator[Batch]:
    """The images of a set in its order as they are: the input `PIXELS` holds objects, uint8 (height, width, 3) each.

    Raises SetError at once for samples that are no images, and as `batches` does.
    """
    if samples.kind != "image":
        raise SetError(
            f"set {samples.name!r}: expected images, which a build with the preprocessing inside reads, found "
            f"{samples.kind}s; give another SET"
        )
    truth = label_indices(samples, samples.labels if labels is None else labels)
    found = read_each(samples.name, samples.samples, lambda one: raw_pixels(one.image()), workers, batch_size + workers)
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        names = tuple(sample.name for sample in samples.samples[part])
        held = np.empty(len(names), dtype=object)
        for place, image in enumerate(islice(found, len(names))):
            held[place] = image
        yield Batch(names=names, labels=truth[part], inputs={PIXELS: held})


def unpadded_batches(
    samples: SampleSet, preprocess: TextPreprocess, batch_size: int, tokenizer: Tokenizer
) -> Iterator[Batch]:
    """The texts by their length, at most `batch_size` of one length at a time, so that no batch holds padding.

    What a layer makes of padding is never used, and must not count when its range is measured.
    """
    texts = _Texts(preprocess, tokenizer, label_places(samples, samples.labels))
    rows = list(zip(samples.samples, texts.read(samples), strict=True))
    rows.sort(key=lambda pair: len(pair[1].ids))  # stable: texts of one length stay in the set's order
    for _, group in groupby(rows, key=lambda pair: len(pair[1].ids)):
        alike = list(group)
        for start in range(0, len(alike), batch_size):
            part = alike[start : start + batch_size]
            yield texts.batch([sample for sample, _ in part], [tokens for _, tokens in part])


def _images(
    samples: SampleSet, preprocess: ImagePreprocess, batch_size: int, truth: tuple[int | None, ...], workers: int
) -> Iterator[Batch]:
    shape = (len(preprocess.mode), *preprocess.size)

    def tensor(sample: Sample) -> FloatArray:
        return tensor_of(sample, shape) if sample.kind == "tensor" else image_tensor(sample.image(), preprocess)

    tensors = read_each(samples.name, samples.samples, tensor, workers, batch_size + workers)
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        stacked = np.stack(list(islice(tensors, batch_size)))
        names = tuple(sample.name for sample in samples.samples[part])
        yield Batch(names=names, labels=truth[part], inputs={preprocess.input: stacked})


def _texts(samples: SampleSet, texts: _Texts, batch_size: int) -> Iterator[Batch]:
    rows = texts.read(samples)
    for start in range(0, len(samples), batch_size):
        yield texts.batch(samples.samples[start : start + batch_size], list(islice(rows, batch_size)))


class _Texts(msgspec.Struct, frozen=True):
    """How one model reads texts and their truth."""

    preprocess: TextPreprocess
    tokenizer: Tokenizer
    places: dict[str, int]
    """Label or tag to its place among the model's."""

    def read(self, samples: SampleSet) -> Iterator[Tokens]:
        def tokens(sample: Sample) -> Tokens:
            return tokenize(sample.text(), self.preprocess, self.tokenizer)

        # Tokenizing takes microseconds and holds the interpreter lock: threads would only wait for each other.
        return read_each(samples.name, samples.samples, tokens, 0, 1)

    def batch(self, samples: Sequence[Sample], rows: Sequence[Tokens]) -> Batch:
        inputs = padded(rows, self.preprocess)
        words = np.zeros(inputs[self.preprocess.input].shape, dtype=np.bool_)
        for row, tokens in enumerate(rows):
            words[row, [place for _, place in tokens.words if place >= 0]] = True
        return Batch(
            names=tuple(sample.name for sample in samples),
            labels=self._truth(samples, rows, words.shape),
            inputs=inputs,
            words=words,
            lengths=tuple(len(tokens.ids) for tokens in rows),
        )

    def _truth(self, samples: Sequence[Sample], rows: Sequence[Tokens], shape: tuple[int, ...]) -> Any:
        if samples[0].target is not None:
            return tuple(sample.target for sample in samples)
        if samples[0].tags is None:
            return tuple(None if sample.label is None else self.places[sample.label] for sample in samples)
        tags = np.full(shape, UNTAGGED, dtype=np.int64)
        for row, (sample, tokens) in enumerate(zip(samples, rows, strict=True)):
            for tag, (_, place) in zip(sample.tags or (), tokens.words, strict=True):
                if place >= 0:  # a word that was cut off with its text has no token left
                    tags[row, place] = self.places[tag]
        return tags
