"""Marian's source.spm and vocab.json as one tokenizer.json: the ids of transformers' own tokenizer, and its texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import CheckpointError
from edgevit.preprocess import open_tokenizer
from edgevit.sources import open_source
from edgevit.sources.huggingface.marian_tokenizer import marian_tokenizer


@pytest.fixture(scope="module")
def files(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.spm, target.spm and vocab.json as Marian's are: the vocabulary is of both languages, in its own order."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("marian")
    pieces: dict[str, None] = dict.fromkeys(["</s>", "<unk>"])
    for name, text in (("source", "calibration"), ("target", "evaluation")):
        sentencepiece.SentencePieceTrainer.train(
            input=str(sentences / f"{text}.txt"), model_prefix=str(folder / name), vocab_size=150,
            character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        pieces |= dict.fromkeys(sorted(model.id_to_piece(index) for index in range(3, model.get_piece_size())))
    ordered = [*pieces, ">>deu<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(ordered)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))
    return folder


def theirs(files: Path) -> Any:
    from transformers import MarianTokenizer

    return MarianTokenizer.from_pretrained(files)


def test_ids_are_those_of_transformers(files: Path, sentences: Path) -> None:
    ours, expected = open_tokenizer(marian_tokenizer(files)), theirs(files)
    known = set((sentences / "calibration.txt").read_text())
    texts = [text for text in (sentences / "evaluation.txt").read_text().splitlines() if set(text) <= known]
    assert len(texts) > 30
    for text in [*texts, "  two   spaces ", ">>deu<< The cat slept.", "ﬁne cats", "a 猫 slept"]:
        assert ours.encode(text).ids == expected(text).input_ids, text


def test_texts_are_those_of_transformers(files: Path) -> None:
    ours, expected = open_tokenizer(marian_tokenizer(files)), theirs(files)
    for text in ("The cat slept.", "Please do not feed the animals."):
        ids = expected(text).input_ids
        assert ours.decode(ids) == text


def test_a_directory_without_tokenizer_json(files: Path, huggingface_directory: Callable[..., Path]) -> None:
    directory = huggingface_directory("marian")
    (directory / "tokenizer.json").unlink()
    for name in ("source.spm", "target.spm", "vocab.json"):
        (directory / name).write_bytes((files / name).read_bytes())
    one, two = open_source(str(directory)), open_source(str(directory))
    assert one.digest == two.digest
    assert one.files["tokenizer.json"].is_file()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("source.spm", b"\xff\xff\xff", "a model of SentencePiece"),
        ("vocab.json", b"[]", "pieces and their ids"),
        ("vocab.json", b'{"a": 0, "</s>": 5, "<unk>": 1}', "ids from 0 on"),
        ("vocab.json", b'{"zzz": 0, "</s>": 1, "<unk>": 2}', "found none"),
    ],
)
def test_damaged_files(files: Path, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    for file in ("source.spm", "vocab.json"):
        (tmp_path / file).write_bytes((files / file).read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        marian_tokenizer(tmp_path)
