"""A `tokenizer.json` of the `tokenizers` library: opened, checked, and held to what it says about itself."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from edgevit.errors import PreprocessError, missing_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LARGEST = 1 << 28
"""Bytes; the file of a quarter of a million tokens has about ten million."""


class Tokenizer:
    """Texts to token ids and back. Thread-safe: nothing of it changes after it was opened."""

    def __init__(self, library: Any, unknown: int | None, where: str) -> None:
        self._library = library
        self.unknown = unknown
        """The id of what the vocabulary has no token for; None where every text has tokens (bytes)."""
        self.where = where
        """The file, for errors."""

    @property
    def size(self) -> int:
        """One more than the largest id, added tokens included: how many rows an embedding needs for it."""
        return 1 + max(map(int, self._library.get_vocab(with_added_tokens=True).values()))

    def encode(self, text: str, limit: int | None = None) -> Any:
        """The library's `Encoding` (ids, offsets) of one text, special tokens included, at most `limit` of them.

        What is cut off are the text's last tokens: the special ones stay. Raises PreprocessError for what the file
        cannot encode.
        """
        try:
            if limit is None:
                return self._library.encode(text)
            encoding = self._library.encode(text, add_special_tokens=False)
            encoding.truncate(max(0, limit - self._library.num_special_tokens_to_add(False)))
            return self._library.post_process(encoding)
        except Exception as error:  # The library's errors share no base class of their own.
            raise PreprocessError(
                f"{self.where}: expected a tokenizer that can encode every text, found: {_line(error)}; "
                "give its model an unknown token"
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids to text; special tokens and ids without a token give none. Raises PreprocessError below 0."""
        try:
            text: str = self._library.decode(list(ids), skip_special_tokens=True)
        except (OverflowError, TypeError) as error:
            raise PreprocessError(f"{self.where}: expected token ids of at least 0, found {list(ids)}") from error
        return text

    def token(self, identity: int) -> str:
        """The vocabulary's own spelling of one id, empty for an id it does not have."""
        return self._library.id_to_token(identity) or ""


def open_tokenizer(path: Path, *, sha256: str = "", vocabulary: int | None = None) -> Tokenizer:
    """Opens a `tokenizer.json`. `vocabulary`: the number of tokens its model knows.

    Padding and truncation that the file may ask for are off: a batch is padded and cut by `TextPreprocess` alone. The
    spelling of a special token inside a text is text. Raises PreprocessError where the file is missing, damaged, not
    the one of that digest, or has ids that the model does not have; UnavailableError without the package.
    """
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise PreprocessError(
            f"{path}: expected the tokenizer of SHA-256 {sha256}, found {found}; use the file that the model was "
            "trained with"
        )
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise missing_package("tokenizers", "text", "preparing a text") from error
    try:
        library: Any = tokenizers.Tokenizer.from_buffer(data)
        content = json.loads(data)["model"]
    except Exception as error:  # The library's errors share no base class of their own.
        raise PreprocessError(
            f"{path}: expected a file of the package tokenizers, found one it refuses: {_line(error)}; copy it again"
        ) from error
    library.no_padding()
    library.no_truncation()
    library.encode_special_tokens = True
    tokenizer = Tokenizer(library, _unknown_id(content, library), str(path))
    if vocabulary is not None and tokenizer.size > vocabulary:
        raise PreprocessError(
            f"{path}: expected ids below {vocabulary}, as the model has them, found {tokenizer.size - 1}; use the file "
            "that the model was trained with"
        )
    return tokenizer


def vocabulary_size(path: Path) -> int:
    """One more than the largest id of a `tokenizer.json`, read without the package. Raises PreprocessError."""
    try:
        content = json.loads(_read(path))
        tokens = content["model"]["vocab"]
        ids = [*map(int, tokens.values())] if isinstance(tokens, dict) else [len(tokens) - 1]
        return 1 + max([*ids, *(int(token["id"]) for token in content.get("added_tokens") or ())])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PreprocessError(
            f"{path}: expected a file of the package tokenizers with a vocabulary, found none; copy it again"
        ) from error


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise PreprocessError(f"{path}: expected a tokenizer of at most {_LARGEST} bytes, found {size}")
        return path.read_bytes()
    except OSError as error:
        raise PreprocessError(
            f"{path}: expected a tokenizer.json, found none that can be read ({error.strerror}); check the path"
        ) from error


def _unknown_id(model: dict[str, Any], library: Any) -> int | None:
    """Unigram names it by its place, the others by its spelling."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    spelling = model.get("unk_token")
    found: int | None = library.token_to_id(spelling) if isinstance(spelling, str) else None
    return found


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
