"""Marian's two files, a source.spm of SentencePiece and a vocab.json, as one tokenizer.json.

transformers has no such file for Marian: its tokenizer splits with the one and looks up in the other. The ids are the
same but for runs of letters that the source's SentencePiece has never seen: it looks them up as one piece, and here
each letter that the target knows is one.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.sources.requirements import require

FILES = ("source.spm", "vocab.json")
FOREIGN = 1000.0
"""How much worse than every piece of the source a piece that only the target has scores: taken where nothing else fits,
as looking up what SentencePiece leaves whole does."""


def is_marian(directory: Path) -> bool:
    return all((directory / name).is_file() for name in FILES)


def marian_tokenizer(directory: Path) -> Path:
    """A new tokenizer.json with Marian's ids, in a temporary folder that lives as long as the process.

    Raises CheckpointError for files that are damaged or do not belong together, UnavailableError without the packages
    tokenizers and sentencepiece.
    """
    require("tokenizers", "reading Marian's vocabulary", "text")
    require("sentencepiece", "reading Marian's source.spm", "huggingface")
    proto, ids = _pieces(directory / FILES[0]), _vocabulary(directory / FILES[1])
    folder = Path(tempfile.mkdtemp(prefix="edgevit-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "tokenizer.json"
    path.write_text(_tokenizer(proto, ids).to_str(), encoding="utf-8")
    return path


def _pieces(path: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise CheckpointError(f"expected a model of SentencePiece at {path}, found damage; copy it again") from error
    return proto


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        ids = {str(piece): int(index) for piece, index in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"expected pieces and their ids at {path}, found: {error}; copy it again") from error
    if sorted(ids.values()) != list(range(len(ids))) or not {"</s>", "<unk>"} <= ids.keys():
        raise CheckpointError(f"expected ids from 0 on, and those of </s> and <unk>, at {path}; copy it again")
    return ids


def _tokenizer(proto: Any, ids: dict[str, int]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == 1}  # 1: a normal piece
    known = [scores[piece] for piece in ids if piece in scores]
    if not known:
        raise CheckpointError("expected pieces of source.spm in vocab.json, found none; copy both files again")
    foreign = min(known) - FOREIGN
    vocabulary = [(piece, scores.get(piece, foreign)) for piece in sorted(ids, key=ids.__getitem__)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=ids["<unk>"], byte_fallback=False))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    steps = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    tokenizer.add_special_tokens([word for word in ("</s>", "<unk>", "<pad>") if word in ids])
    # Models of several languages are told the target's by a word like >>fra<< before the text.
    languages = [word for word in ids if word.startswith(">>") and word.endswith("<<")]
    tokenizer.add_tokens([AddedToken(word, rstrip=True, normalized=False) for word in languages])
    return tokenizer
