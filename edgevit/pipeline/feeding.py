"""What each part of a model reads: the samples themselves, or what the parts before it made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.pipeline.parts import WHOLE
from edgevit.pipeline.translators import Graphs, decoder_calls, settings_of
from edgevit.preprocess import open_tokenizer
from edgevit.runtime.parts import DECODER, ENCODER
from edgevit.sets import batches, unpadded_batches
from edgevit.types import TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgevit.preprocess import Tokenizer
    from edgevit.sets import Batch, SampleSet
    from edgevit.types import Arrays, FloatModel, OnnxModel


def part_inputs(
    model: FloatModel, graphs: Mapping[str, OnnxModel], part: str, samples: SampleSet, size: int
) -> Iterator[Arrays]:
    """The inputs of one part over all samples, at most `size` samples at a time, in memory that does not grow.

    Texts come without padding: what a layer makes of it is never used. The decoder reads what the float graphs write.
    """
    if part in (WHOLE, ENCODER):
        return (batch.inputs for batch in model_batches(model, samples, size))
    if part == DECODER:
        return _written(model, graphs, samples, size)
    raise InputError(f"expected a part of {', '.join(graphs)} that can be fed, found {part!r}")


def _written(model: FloatModel, graphs: Mapping[str, OnnxModel], samples: SampleSet, size: int) -> Iterator[Arrays]:
    with Graphs(graphs) as opened:
        for batch in model_batches(model, samples, size):
            yield from decoder_calls(opened.session, batch.inputs, settings_of(model))


def model_batches(model: FloatModel, samples: SampleSet, size: int) -> Iterator[Batch]:
    """The samples as the model's inputs, texts without padding and therefore in the order of their lengths."""
    spec = model.preprocess
    if isinstance(spec, TextPreprocess):
        tokenizer = source_tokenizer(model)
        assert tokenizer is not None
        return unpadded_batches(samples, spec, size, tokenizer)
    return batches(samples, spec, size)


def source_tokenizer(model: FloatModel) -> Tokenizer | None:
    """What a model of texts reads them with. Raises PreprocessError for a file that is not the model's own."""
    spec = model.preprocess
    if not isinstance(spec, TextPreprocess):
        return None
    return open_tokenizer(model.files[spec.tokenizer], sha256=spec.tokenizer_sha256)


def target_tokenizer(model: FloatModel) -> Tokenizer | None:
    """What the ids that a model writes mean; None for a model that writes none."""
    if model.generation is None:
        return None
    return open_tokenizer(model.files[model.generation.tokenizer])
