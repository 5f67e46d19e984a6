"""A few inputs and the reference's outputs, for the self-test on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.parity.sequences import LOGITS, TARGETS

if TYPE_CHECKING:
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.types import Arrays


def golden_samples(evaluation: Evaluation, count: int) -> tuple[Arrays, Arrays]:
    """Inputs and outputs of the first samples, at most `count` and at most one batch of them.

    Of translations: the tokens that the reference wrote, as far as the shortest text goes. Behind a text's end there is
    padding, for which nothing is promised.
    """
    if evaluation.generation is not None:
        return _translations(evaluation, count)
    first = next(iter(evaluation.batches()))
    inputs = {name: values[:count] for name, values in first.inputs.items()}
    reference = evaluation.reference_of()(first.inputs)
    return inputs, {name: values[:count] for name, values in reference.items()}


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
