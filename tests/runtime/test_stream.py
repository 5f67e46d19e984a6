"""Pieces of text as tokens come, whatever the tokenizer: together they are the whole text."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import PreprocessError
from edgevit.preprocess import open_tokenizer
from edgevit.runtime import translate
from edgevit.runtime.search import Written
from edgevit.types import Generation, TextPreprocess

SETTINGS = Generation(start_token_id=3, end_token_id=1, pad_token_id=0, max_length=64)
BATCH = {"input_ids": np.zeros((1, 1), np.int64), "attention_mask": np.ones((1, 1), np.int64)}


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    """Every byte is a token; ids begin at 10."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = {letter: 10 + index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = Tokenizer(models.BPE(alphabet, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.save(str(path := tmp_path_factory.mktemp("bytes") / "tokenizer.json"))
    return open_tokenizer(path)


def streamed(ids, tokenizer) -> list[str]:
    def writes(*_):
        return (Written(np.zeros(1, np.int64), np.array([token]), np.zeros(1, np.float32)) for token in ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate, "Decoding", lambda *_: nullcontext())
        patch.setattr(translate, "greedy", writes)
        return list(translate.stream(None, BATCH, TextPreprocess(max_length=9), tokenizer, SETTINGS))  # type: ignore[arg-type]


@given(st.text(max_size=12), st.booleans())
def test_characters_of_several_bytes_come_whole(of_bytes, text, ends):
    ids = of_bytes.encode(text).ids
    pieces = streamed([*ids, 1] if ends else ids, of_bytes)
    assert "".join(pieces) == of_bytes.decode(ids) == text
    assert all(pieces)
    if len(text) > 1 and "\N{REPLACEMENT CHARACTER}" not in text:
        assert len(pieces) == len(text)


@given(st.lists(st.integers(10, 265), max_size=12))
def test_bytes_that_are_no_text_come_as_the_whole_shows_them(of_bytes, ids):
    assert "".join(streamed(ids, of_bytes)) == of_bytes.decode(ids)


@given(st.lists(st.integers(0, 27), max_size=12))
def test_word_pieces_come_one_by_one(tokenizer_file, ids):
    tokenizer = open_tokenizer(tokenizer_file)
    assert "".join(streamed(ids, tokenizer)) == tokenizer.decode(ids)


def test_a_tokenizer_that_rewrites_what_it_gave_is_refused(of_bytes):
    class Rewriting:
        where = "tokenizer.json"

        def decode(self, ids):
            return "a" if len(ids) == 1 else "b" * len(ids)

    with pytest.raises(PreprocessError, match="text only grows, found 'bb' after 'a'; use predict"):
        streamed([10, 11], Rewriting())
