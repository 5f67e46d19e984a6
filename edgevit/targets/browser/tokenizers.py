"""Whether the page's own tokenizer knows all that a `tokenizer.json` asks for, said before anything is built."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KNOWN = {
    "normalizer": (
        "Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Prepend", "Replace",
        "BertNormalizer", "Precompiled",
    ),
    "pre_tokenizer": (
        "Sequence", "Metaspace", "ByteLevel", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation",
        "Digits", "Split",
    ),
    "model": ("BPE", "WordPiece", "Unigram"),
    "post_processor": ("Sequence", "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing"),
    "decoder": (
        "Sequence", "Metaspace", "WordPiece", "BPEDecoder", "ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip",
    ),
}  # fmt: skip
"""What normalize.mjs, split.mjs, pieces.mjs, tokenizer.mjs and spell.mjs can do."""
_BELOW = ("normalizers", "pretokenizers", "processors", "decoders")
_PLAIN = re.compile(r"(?:[^\\(]|\\[sS]|\\[pP]\{\w+\}|\\[^\w\s]|\((?:\?[:=!])?(?!\?))*")
"""Regular expressions that JavaScript reads as the library does."""


def check_tokenizer(path: Path, target: str) -> None:
    """Raises InputError, naming the part, for a file that the page cannot tokenize with."""
    content = json.loads(path.read_bytes())
    for name, known in KNOWN.items():
        for part in _parts(content.get(name)):
            kind = part.get("type", known[0])  # old files leave the model's away
            if kind not in known:
                raise InputError(
                    f"expected a tokenizer that the page of {target} knows ({name}: {', '.join(known)}), found {kind} "
                    f"in {path}; build onnxruntime"
                )
            pattern = part.get("pattern")
            text = pattern.get("Regex") if isinstance(pattern, dict) else None
            if text is not None and not _PLAIN.fullmatch(text):
                raise InputError(
                    f"expected a tokenizer whose patterns JavaScript reads alike for {target}, found {text!r} in the "
                    f"{name} of {path}; build onnxruntime"
                )


def _parts(spec: Any) -> Iterator[dict[str, Any]]:
    """A part of the file and those it is a sequence of."""
    if spec is None:
        return
    yield spec
    for name in _BELOW:
        for below in spec.get(name) or ():
            yield from _parts(below)
