"""A few inputs and the reference's outputs, for the self-test on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.parity.sequences import LOGITS, TARGETS
from edgevit.types import PIXELS

if TYPE_CHECKING:
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.types import Arrays


def golden_samples(evaluation: Evaluation, count: int, *, pixels: bool = False) -> tuple[Arrays, Arrays]:
    """Inputs and outputs of the first samples, at most `count` and at most one batch of them.

    With `pixels` also the raw images, which have to be of one size: the smallest of the first batch, again and again.

    Of translations: the tokens that the reference wrote, as far as the shortest text goes. Behind a text's end there is
    padding, for which nothing is promised.
    """
    if evaluation.generation is not None:
        return _translations(evaluation, count)
    first = next(iter(evaluation.batches()))
    reference = evaluation.reference_of()(first.inputs)
    rows, inputs = np.arange(min(count, len(first))), first.inputs
    if pixels:
        images = next(iter(evaluation.raw_batches())).inputs[PIXELS]
        smallest = min(images, key=lambda image: image.size).shape
        alike = [row for row, image in enumerate(images) if image.shape == smallest]
        rows = np.resize(alike, len(rows))
    given = {name: values[rows] for name, values in inputs.items()}
    if pixels:
        given[PIXELS] = np.stack([images[row] for row in rows])
    return given, {name: values[rows] for name, values in reference.items()}


def _translations(evaluation: Evaluation, count: int) -> tuple[Arrays, Arrays]:
    settings = evaluation.generation
    assert settings is not None
    first = next(iter(evaluation.written()))
    assert first.logits is not None
    texts = list(first.ids[:count])
    shortest = min(map(len, texts))
    begins = np.cumsum([0, *map(len, texts)])[:-1]
    targets = np.array([[settings.start_token_id, *ids[: shortest - 1]] for ids in texts], dtype=np.int64)
    inputs = {**{name: values[:count] for name, values in first.inputs.items()}, TARGETS: targets}
    return inputs, {LOGITS: np.stack([first.logits[begin : begin + shortest] for begin in begins])}
