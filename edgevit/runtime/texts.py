"""Texts in, classes or tags out: batches of similar lengths, results in the order of the texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.preprocess import padded, tokenize
from edgevit.runtime.classify import Classification, classify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgevit.preprocess import Tokenizer, Tokens
    from edgevit.types import Arrays, TextPreprocess

LARGEST_BATCH = 32
"""Texts that are run at a time, so that no list fills the memory."""


class WordTag(msgspec.Struct, frozen=True):
    """One word of a text (what white space separates), its label and that label's softmax score.

    A word of which the model saw nothing has no label and the score 0.
    """

    word: str
    label: str
    score: float


class Tagging(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text's words with their labels, in order."""

    words: tuple[WordTag, ...]
    notes: tuple[str, ...] = ()
    """What of the text the model did not get to see (`preprocess.Tokens.notes`)."""


def text_batches(
    texts: Sequence[str | bytes], spec: TextPreprocess, tokenizer: Tokenizer, step: int | None = None
) -> Iterator[tuple[list[int], list[Tokens], Arrays]]:
    """(places in `texts`, their tokens, the padded batch), at most `step` texts at a time.

    Every text is tokenized, and so checked, before the first batch is given. Texts of one length stand together:
    padding costs the time of tokens and changes no result.
    """
    rows = [tokenize(text, spec, tokenizer) for text in texts]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    size = step or LARGEST_BATCH
    for start in range(0, len(order), size):
        places = order[start : start + size]
        chosen = [rows[place] for place in places]
        yield places, chosen, padded(chosen, spec)


def text_class(logits: NDArray[np.floating], row: Tokens, labels: Sequence[str], top: int) -> Classification:
    """Logits (classes,) of one text as its labels."""
    return msgspec.structs.replace(classify(logits, labels, top), notes=row.notes)


def tagging(logits: NDArray[np.floating], row: Tokens, labels: Sequence[str]) -> Tagging:
    """Logits (source_length, tags) of one text as a label for each word: the one at the word's first token."""
    best = [classify(logits[place], labels, 1) if place >= 0 else None for _, place in row.words]
    words = tuple(
        WordTag(word, found.label if found else "", found.score if found else 0.0)
        for (word, _), found in zip(row.words, best, strict=True)
    )
    return Tagging(words=words, notes=row.notes)
