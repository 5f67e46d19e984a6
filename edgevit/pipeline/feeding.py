"""What each part of a model reads: the samples themselves, or what the parts before it made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.pipeline.parts import WHOLE
from edgevit.sets import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, FloatModel, OnnxModel


def part_inputs(
    model: FloatModel, graphs: Mapping[str, OnnxModel], part: str, samples: SampleSet, size: int
) -> Iterator[Arrays]:
    """The inputs of one part over all samples, at most `size` samples at a time, in memory that does not grow."""
    if part == WHOLE:
        return (batch.inputs for batch in batches(samples, model.preprocess, size))
    raise InputError(f"expected a part of {', '.join(graphs)} that can be fed, found {part!r}")
