"""Class scores to labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Classification(msgspec.Struct, frozen=True, omit_defaults=True):
    """The best label, its softmax score, and the `top` best of both."""

    label: str
    score: float
    top: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()
    """What of a text the model did not get to see (`preprocess.Tokens.notes`)."""


def classify(logits: NDArray[np.floating], labels: Sequence[str], top: int = 5) -> Classification:
    """Softmax over one row of class scores (classes,), best first; a class without a label gets its index."""
    values = np.asarray(logits, dtype=np.float64)
    scores = np.exp(values - values.max())
    scores /= scores.sum()
    order = np.argsort(-scores, kind="stable")[: max(1, top)]
    best = tuple((labels[index] if index < len(labels) else str(index), float(scores[index])) for index in order)
    return Classification(label=best[0][0], score=best[0][1], top=best)
