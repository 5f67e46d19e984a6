"""Texts to tensors: the one implementation of `TextPreprocess`.

A text is tokenized by its file, which appends the end token itself, and a batch is padded on the right to its longest
text. What was lost on the way, characters without a token or tokens beyond `max_length`, is said in `Tokens.notes`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import PreprocessError
from edgevit.files import check_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.preprocess.tokenizer import Tokenizer
    from edgevit.types import Arrays, TextPreprocess

_SHOWN = 40
"""Characters of a text that an error quotes."""
_LISTED = 5


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """One text as a row of the batch."""

    ids: tuple[int, ...]
    """Special tokens included."""
    words: tuple[tuple[str, int], ...]
    """The text's words (what white space separates), each with the place of its first token in `ids`.

    The place is -1 for a word that has no token left: nothing but control characters, or cut off.
    """
    notes: tuple[str, ...] = ()
    """What the model does not get to see, in one sentence each; empty when the whole text is there."""


def check_text_preprocess(spec: TextPreprocess) -> None:
    """Raises PreprocessError, naming the field, when a specification cannot describe a batch."""
    check_relative(spec.tokenizer, "preprocess.tokenizer", PreprocessError)
    for field, value, least in (("max_length", spec.max_length, 1), ("pad_token_id", spec.pad_token_id, 0)):
        if value < least:
            raise PreprocessError(f"preprocess.{field}: expected at least {least}, found {value}")


def tokenize(text: str | bytes, spec: TextPreprocess, tokenizer: Tokenizer) -> Tokens:
    """One text, or its UTF-8 bytes, as token ids.

    Raises PreprocessError for what is not a text, bytes that are no UTF-8 (with their place), a text without any
    token, and one of more than `max_length` tokens unless the specification says to cut it.
    """
    decoded = _decoded(text)
    whole = tokenizer.encode(decoded)
    notes = []
    encoding = whole
    if len(whole.ids) > spec.max_length:
        if not spec.truncate:
            raise PreprocessError(
                f"{_quoted(decoded)}: expected at most {spec.max_length} tokens, found {len(whole.ids)}; shorten it, "
                "or split it into sentences"
            )
        encoding = tokenizer.encode(decoded, spec.max_length)
        notes.append(f"cut from {len(whole.ids)} to {len(encoding.ids)} tokens")
    places = [place for place, (start, end) in enumerate(encoding.offsets) if end > start]
    if not places:
        raise PreprocessError(f"{_quoted(decoded)}: expected a text with at least one token, found none in it")
    unknown = [_at(decoded, encoding.offsets[place]) for place in places if encoding.ids[place] == tokenizer.unknown]
    if unknown:
        listed = ", ".join(map(repr, dict.fromkeys(unknown[:_LISTED]))) + (", …" if len(unknown) > _LISTED else "")
        notes.append(f"{len(unknown)} of {len(places)} tokens unknown to the vocabulary: {listed}")
    return Tokens(ids=tuple(encoding.ids), words=_words(decoded, encoding.offsets), notes=tuple(notes))


def padded(rows: Sequence[Tokens], spec: TextPreprocess) -> Arrays:
    """Tokenized texts as one batch: ids and mask, int64 (texts, longest). Raises PreprocessError for none."""
    if not rows:
        raise PreprocessError("expected at least one text, found none")
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), spec.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
        mask[index, : len(row.ids)] = 1
    return {spec.input: ids, spec.mask: mask}


def texts_batch(texts: Sequence[str | bytes], spec: TextPreprocess, tokenizer: Tokenizer) -> Arrays:
    """Texts as `input_ids` and `attention_mask`, int64 (texts, longest). Raises PreprocessError as `tokenize` does."""
    check_text_preprocess(spec)
    return padded([tokenize(text, spec, tokenizer) for text in texts], spec)


def _decoded(text: Any) -> str:
    """The text as a string that has a UTF-8 form and something in it."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PreprocessError(
                f"a text of {len(text)} bytes: expected UTF-8, found byte {text[error.start]:#04x} at {error.start} "
                f"({error.reason}); decode it with its own encoding first"
            ) from error
    if not isinstance(text, str):
        raise PreprocessError(f"expected a text, a str or its UTF-8 bytes, found a {type(text).__name__}")
    if not text.strip():
        raise PreprocessError(f"expected a text with at least one word, found {text[:_SHOWN]!r}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Half a surrogate pair: what Python makes of undecodable bytes on a command line or in a file name.
        raise PreprocessError(
            f"{_quoted(text)}: expected Unicode text, found the lone surrogate {text[error.start]!a} at character "
            f"{error.start}; decode it with its own encoding first"
        ) from error
    return text


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[tuple[str, int], ...]:
    """Each word and its first token: the first whose last character lies in the word.

    The last one, because some tokenizers count the space before a word to its first token.
    """
    ends = [(end - 1, place) for place, (start, end) in enumerate(offsets) if end > start]
    first: list[tuple[str, int]] = []
    cursor = 0
    for match in re.finditer(r"\S+", text):
        while cursor < len(ends) and ends[cursor][0] < match.start():
            cursor += 1
        has = cursor < len(ends) and ends[cursor][0] < match.end()
        first.append((match.group(), ends[cursor][1] if has else -1))
    return tuple(first)


def _at(text: str, place: tuple[int, int]) -> str:
    return text[place[0] : place[1]].strip()


def _quoted(text: str) -> str:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"the text {shown!a}" if not shown.isprintable() else f"the text {shown!r}"
