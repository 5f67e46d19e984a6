"""The tokenizer beside a checkpoint, and what a `TextPreprocess` takes from the files around it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckpointError, InputError
from edgevit.sources.huggingface.marian_tokenizer import is_marian, marian_tokenizer
from edgevit.types import TextPreprocess

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

TOKENIZER = "tokenizer.json"
SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "source.spm", "tokenizer.model")
"""Vocabularies from before `tokenizer.json`; what surrounds them is code of each model's own."""
UNKNOWN_LENGTH = 512
"""Tokens of a text where neither positions nor the tokenizer's settings bound it (T5 was trained with as many)."""


def tokenizer_beside(directory: Path) -> Path:
    """The directory's tokenizer.json, or one made of Marian's files. Raises CheckpointError where there is neither."""
    path = directory / TOKENIZER
    if path.is_file():
        return path
    if is_marian(directory):
        return marian_tokenizer(directory)
    old = [name for name in SLOW if (directory / name).exists()]
    advice = (
        f"make it from {', '.join(old)}: transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        if old
        else "copy the tokenizer that was published with the model there"
    )
    raise CheckpointError(f"expected a {TOKENIZER} in {directory}, found none; {advice}")


def text_preprocess(
    directory: Path, model: Any, limit: int | None, *, tokenizer: Path, truncate: bool
) -> TextPreprocess:
    """How texts become a batch for `model` (a module of transformers).

    `limit`: tokens at most, where something else than the tokenizer's settings says so. Raises CheckpointError for a
    missing or damaged tokenizer, and for one with more tokens than the model has embeddings.
    """
    from edgevit.preprocess import vocabulary_size

    path = tokenizer
    rows, size = model.get_input_embeddings().num_embeddings, vocabulary_size(path)
    if size > rows:
        raise CheckpointError(
            f"expected a vocabulary of at most {rows} tokens for {directory}, found {size} in {path}; use the "
            "tokenizer that the model was trained with"
        )
    return TextPreprocess(
        tokenizer=TOKENIZER,
        tokenizer_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        max_length=longest_text(directory, model, limit),
        truncate=truncate,
        pad_token_id=_padding(directory, model, path),
    )


def longest_text(directory: Path, model: Any, limit: int | None) -> int:
    """Tokens of the longest text: what the positions, the tokenizer's settings and `limit` all allow."""
    said = _settings(directory / "tokenizer_config.json").get("model_max_length")
    bounds = [positions(model), limit, said if isinstance(said, int) else None]
    return min((bound for bound in bounds if bound is not None and bound > 0), default=UNKNOWN_LENGTH)


def positions(model: Any) -> int | None:
    """Tokens that the model has positions for; None where it computes them.

    RoBERTa's first position stands behind that of padding: its table has rows that no token uses.
    """
    from torch import nn

    most = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return None
    tables = [
        part
        for name, part in model.named_modules()
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(part, nn.Embedding)
    ]
    unused = max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)
    return most - unused


def _padding(directory: Path, model: nn.Module, tokenizer: Path) -> int:
    config: Any = model.config
    if isinstance(config.pad_token_id, int):
        return int(config.pad_token_id)
    spelled = _settings(directory / "tokenizer_config.json").get("pad_token")
    spelled = spelled.get("content") if isinstance(spelled, dict) else spelled
    content = json.loads(tokenizer.read_bytes())
    for token in content.get("added_tokens") or ():
        if isinstance(token, dict) and token.get("content") == spelled is not None:
            return int(token["id"])
    raise InputError(
        f"expected a pad_token_id in {directory / 'config.json'}, found none; add the id of the token that texts of "
        "one batch are filled up with"
    )


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"expected JSON at {path}, found: {error}; copy the file again") from error
    return settings if isinstance(settings, dict) else {}
