"""Texts in, texts out: what a decoder wrote, as text, all at once or as it comes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import InputError, PreprocessError
from edgevit.runtime.loop import Decoding
from edgevit.runtime.search import generate, greedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.preprocess import Tokenizer, Tokens
    from edgevit.runtime.parts import PartsSession
    from edgevit.runtime.search import Generated
    from edgevit.types import Arrays, Generation, TextPreprocess

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder of bytes gives for a character whose other bytes are still to come."""


class Translation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was written for one text."""

    text: str
    tokens: tuple[int, ...]
    """The ids behind it, with the end token if it was reached."""
    score: float
    """Sum of their log-probabilities / length ** length_penalty."""
    notes: tuple[str, ...] = ()
    """What of the text the model did not get to see, and that no end was reached."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants otherwise than the bundle's own `Generation`; None leaves it."""

    beams: int | None = None
    max_length: int | None = None
    length_penalty: float | None = None


def settings_for(generation: Generation | None, changes: Changes, task: str) -> Generation:
    """The bundle's settings with the caller's changes.

    Raises InputError for a model that generates nothing, beams or a length below 1, a length that is more than the
    model was exported for (it has no positions beyond it), and a penalty that is no number.
    """
    wanted = {name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not None}
    if generation is None:
        raise InputError(f"expected a model that writes text for {', '.join(wanted) or 'this'}, found one for {task}")
    settings: Generation = msgspec.structs.replace(generation, **wanted)
    for name, limit in (("beams", None), ("max_length", generation.max_length)):
        value = getattr(settings, name)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1 or (limit is not None and value > limit):
            most = "of at least 1" if limit is None else f"from 1 to {limit}, what the model was exported for"
            raise InputError(f"expected {name} {most}, found {value!r}; correct the option")
    penalty = settings.length_penalty
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not math.isfinite(penalty):
        raise InputError(f"expected length_penalty as a finite number, found {penalty!r}; correct the option")
    return settings


def generated(session: PartsSession, batch: Arrays, spec: TextPreprocess, settings: Generation) -> list[Generated]:
    """What the decoder writes for each source of a padded batch."""
    with Decoding(session, batch[spec.input], batch[spec.mask]) as steps:
        return generate(steps, len(batch[spec.input]), settings)


def as_arrays(rows: list[Generated], settings: Generation) -> Arrays:
    """`sequences` int64 (batch, longest) without the start token, padded on the right; `lengths` int64 (batch,), the
    end token counted; `scores` float32 (batch,)."""
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    sequences = np.full((len(rows), int(lengths.max())), settings.pad_token_id, dtype=np.int64)
    for place, row in enumerate(rows):
        sequences[place, : len(row.ids)] = row.ids
    scores = np.array([row.score(settings) for row in rows], dtype=np.float32)
    return {"sequences": sequences, "lengths": lengths, "scores": scores}


def translation(row: Generated, source: Tokens, tokenizer: Tokenizer, settings: Generation) -> Translation:
    """One finished sequence as text."""
    ended = row.ids[-1] == settings.end_token_id
    notes = source.notes if ended else (*source.notes, f"no end within {len(row.ids)} tokens")
    return Translation(written(row.ids, tokenizer, settings), row.ids, row.score(settings), notes)


def written(ids: tuple[int, ...], tokenizer: Tokenizer, settings: Generation) -> str:
    """Ids as text, without the end token, which a vocabulary need not call special."""
    return tokenizer.decode(ids[:-1] if ids[-1:] == (settings.end_token_id,) else ids)


def stream(
    session: PartsSession, batch: Arrays, spec: TextPreprocess, tokenizer: Tokenizer, settings: Generation
) -> Iterator[str]:
    """The text of one source, piece by piece, as greedy search writes it; together the pieces are the whole text.

    Text that later tokens may still change (bytes of a character that is not complete) is held back. Raises
    PreprocessError for a tokenizer that rewrites what it has already given.
    """
    ids: tuple[int, ...] = ()
    given = ""
    with Decoding(session, batch[spec.input], batch[spec.mask]) as steps:
        for step in greedy(steps, 1, settings):
            ids = (*ids, int(step.tokens[0]))
            text = written(ids, tokenizer, settings)
            piece = _addition(given, text.rstrip(_UNFINISHED), tokenizer)
            if piece:
                given += piece
                yield piece
    rest = _addition(given, written(ids, tokenizer, settings), tokenizer)
    if rest:
        yield rest


def _addition(given: str, text: str, tokenizer: Tokenizer) -> str:
    if not text.startswith(given):
        raise PreprocessError(
            f"{tokenizer.where}: expected a tokenizer whose text only grows, found {text!r} after {given!r}; "
            "use predict, which decodes the whole at once"
        )
    return text[len(given) :]
