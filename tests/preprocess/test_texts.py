"""Texts to batches: padding, words and their tokens, what is lost, and everything that is no text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import PreprocessError
from edgevit.preprocess import check_text_preprocess, open_tokenizer, padded, texts_batch, tokenize
from edgevit.types import TextPreprocess

SPEC = TextPreprocess(max_length=12)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file):
    return open_tokenizer(tokenizer_file)


def test_a_batch_is_padded_on_the_right_to_its_longest(tokenizer):
    spec = TextPreprocess(input="ids", mask="mask", max_length=12, pad_token_id=7)
    batch = texts_batch(["am Dienstag", "um", b"um drei Uhr"], spec, tokenizer)
    assert batch.keys() == {"ids", "mask"}
    assert batch["ids"].tolist() == [[4, 5, 6, 1], [9, 1, 7, 7], [9, 10, 11, 1]]
    assert batch["mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_none_is_no_batch(tokenizer):
    with pytest.raises(PreprocessError, match="at least one text"):
        texts_batch([], SPEC, tokenizer)
    with pytest.raises(PreprocessError, match="at least one text"):
        padded([], SPEC)


def test_a_text_and_its_bytes_are_one(tokenizer):
    assert tokenize("am Dienstag, é".encode(), SPEC, tokenizer) == tokenize("am Dienstag, é", SPEC, tokenizer)


# ------------------------------------------------------------------------------------------------ words


def test_a_word_stands_at_its_first_token(tokenizer):
    tokens = tokenize("  am Dienstag,\tum\n12 ", SPEC, tokenizer)
    assert tokens.ids == (4, 5, 6, 12, 9, 26, 27, 1)
    assert tokens.words == (("am", 0), ("Dienstag,", 1), ("um", 4), ("12", 5))


def test_a_word_of_nothing_has_no_token(tokenizer):
    assert tokenize("am \u0000\u200b um", SPEC, tokenizer).words == (("am", 0), ("\u0000\u200b", -1), ("um", 1))
    tokens = tokenize("am Dienstag um", TextPreprocess(max_length=3, truncate=True), tokenizer)
    assert tokens.words == (("am", 0), ("Dienstag", 1), ("um", -1))


def test_a_token_that_begins_with_its_space_is_the_next_words(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    library = Tokenizer(models.WordLevel({"a": 0, "\u0120b": 1, "\u0120a": 2, "?": 3}, unk_token="?"))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    library.save(str(tmp_path / "tokenizer.json"))
    tokens = tokenize("a b a", SPEC, open_tokenizer(tmp_path / "tokenizer.json"))
    assert tokens.ids == (0, 1, 2)
    assert tokens.words == (("a", 0), ("b", 1), ("a", 2))


@given(st.text(max_size=30))
def test_any_text_is_prepared_or_refused_in_one_line(tokenizer, text):
    try:
        tokens = tokenize(text, SPEC, tokenizer)
    except PreprocessError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert 1 < len(tokens.ids) <= 12
    assert tokens.ids[-1] == 1
    assert [word for word, _ in tokens.words] == text.split()
    places = [place for _, place in tokens.words if place >= 0]
    assert places == sorted(set(places))
    assert all(place < len(tokens.ids) - 1 for place in places)


@given(st.binary(max_size=20))
def test_any_bytes_are_a_text_or_refused(tokenizer, data):
    try:
        expected = data.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(PreprocessError, match=f"a text of {len(data)} bytes: expected UTF-8, found byte 0x"):
            tokenize(data, SPEC, tokenizer)
        return
    assert outcome(data, tokenizer) == outcome(expected, tokenizer)


def outcome(text, tokenizer):
    try:
        return tokenize(text, SPEC, tokenizer)
    except PreprocessError as error:
        return str(error)


# ------------------------------------------------------------------------------------- what is lost is said


def test_unknown_characters_are_noted(tokenizer):
    assert tokenize("am Dienstag", SPEC, tokenizer).notes == ()
    tokens = tokenize("am 日本 Freitag 日本 um", SPEC, tokenizer)
    assert tokens.ids == (4, 2, 2, 2, 2, 2, 9, 1)
    assert tokens.notes == ("5 of 7 tokens unknown to the vocabulary: '日', '本', 'Freitag'",)


def test_a_longer_text_is_an_error_that_says_how_long(tokenizer):
    spec = TextPreprocess(max_length=4)
    assert len(tokenize("am Dienstag", spec, tokenizer).ids) == 4
    with pytest.raises(PreprocessError, match=r"'am Dienstag um': expected at most 4 tokens, found 5; shorten"):
        tokenize("am Dienstag um", spec, tokenizer)


def test_or_is_cut_and_says_so(tokenizer):
    spec = TextPreprocess(max_length=4, truncate=True)
    tokens = tokenize("am Dienstag um drei", spec, tokenizer)
    assert tokens.ids == (4, 5, 6, 1)
    assert tokens.notes == ("cut from 6 to 4 tokens",)
    assert tokenize("am Dienstag", spec, tokenizer).notes == ()


# ---------------------------------------------------------------------------------------- what is no text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one word, found ''"),
        (b"", "at least one word, found ''"),
        (" \n\t\u2003", "at least one word"),
        (None, "a str or its UTF-8 bytes, found a NoneType"),
        (3, "found a int"),
        (["am"], "found a list"),
        (np.zeros((8, 8, 3), np.uint8), "found a ndarray"),
        (b"am \xff", r"4 bytes: expected UTF-8, found byte 0xff at 3"),
        ("März".encode("latin-1"), "found byte 0xe4 at 1"),
        ("日".encode()[:2], "unexpected end"),
        ("am \udcff", r"lone surrogate '\\udcff' at character 3"),
        ("\u0000\u0001", "at least one token"),
    ],
)
def test_what_is_no_text_is_said(tokenizer, text, message):
    with pytest.raises(PreprocessError, match=message) as caught:
        tokenize(text, SPEC, tokenizer)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 0}, r"preprocess\.max_length: expected at least 1, found 0"),
        ({"max_length": -3}, "found -3"),
        ({"max_length": 4, "pad_token_id": -1}, r"preprocess\.pad_token_id"),
        ({"max_length": 4, "tokenizer": "../secret"}, r"preprocess\.tokenizer"),
    ],
)
def test_a_specification_that_describes_no_batch(tokenizer, fields, message):
    with pytest.raises(PreprocessError, match=message):
        check_text_preprocess(TextPreprocess(**fields))
    with pytest.raises(PreprocessError, match=message):
        texts_batch(["am"], TextPreprocess(**fields), tokenizer)
