"""A tokenizer's file: opened once, held to its digest, its vocabulary and its own special tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import PreprocessError
from edgevit.files import sha256
from edgevit.preprocess import open_tokenizer, vocabulary_size


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file):
    return open_tokenizer(tokenizer_file, sha256=sha256(tokenizer_file), vocabulary=28)


def refusal(path, **how) -> str:
    with pytest.raises(PreprocessError) as caught:
        open_tokenizer(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_texts_become_ids_and_ids_texts(tokenizer):
    ids = tokenizer.encode("am Dienstag, um drei Uhr").ids
    assert ids == [4, 5, 6, 12, 9, 10, 11, 1]
    assert [tokenizer.token(identity) for identity in ids[:3]] == ["am", "dien", "##stag"]
    assert tokenizer.decode([3, 13, 14, 15, 16, 17, 1, 0, 0]) == "on tuesday at three"
    assert tokenizer.decode([]) == ""
    assert tokenizer.token(999) == ""
    assert tokenizer.unknown == 2
    assert tokenizer.size == 28


def test_the_spelling_of_a_special_token_is_text(tokenizer):
    """Or whoever writes `</s>` into a text would end it."""
    assert 1 not in tokenizer.encode("am </s> um [PAD]").ids[:-1]
    assert 0 not in tokenizer.encode("am </s> um [PAD]").ids


def test_a_limit_cuts_the_text_and_keeps_its_end(tokenizer):
    whole = tokenizer.encode("am Dienstag um drei").ids
    for limit in range(1, len(whole) + 3):
        assert tokenizer.encode("am Dienstag um drei", limit).ids == [*whole[:-1][: limit - 1], 1]


def test_what_the_file_says_of_padding_and_cutting_is_off(tokenizer_file, tmp_path):
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(tokenizer_file))
    library.enable_padding(length=12)
    library.enable_truncation(max_length=2)
    library.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(tmp_path / "tokenizer.json").encode("am Dienstag").ids == [4, 5, 6, 1]


@pytest.mark.parametrize("kind", ["bpe", "bytes", "unigram", "words"])
def test_every_kind_of_model_names_its_unknown(kind, tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    models_of: dict[str, Any] = {
        "bpe": models.BPE({"a": 0, "?": 1}, [], unk_token="?"),
        "bytes": models.BPE(alphabet, []),
        "unigram": models.Unigram([("a", -1.0), ("?", -2.0)], unk_id=1),
        "words": models.WordLevel({"a": 0, "?": 1}, unk_token="?"),
    }
    library = Tokenizer(models_of[kind])
    if kind == "bytes":
        library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.save(str(path := tmp_path / f"{kind}.json"))
    opened = open_tokenizer(path)
    assert opened.unknown == (None if kind == "bytes" else 1)
    assert opened.size == vocabulary_size(path) == (256 if kind == "bytes" else 2)
    if kind == "bytes":
        assert opened.decode(opened.encode("März 日本").ids) == "März 日本"
    else:
        assert opened.encode("ö").ids == [1]


def test_a_file_that_is_not_there_or_not_one(tmp_path):
    assert "No such file" in refusal(tmp_path / "nowhere.json")
    (tmp_path / "folder.json").mkdir()
    refusal(tmp_path / "folder.json")
    for name, content in (
        ("empty", b""),
        ("other", b"{}"),
        ("list", b"[]"),
        ("bytes", b"\xff\xfe\x00"),
        ("cut", b'{"'),
    ):
        (path := tmp_path / f"{name}.json").write_bytes(content)
        assert "copy it again" in refusal(path)
        with pytest.raises(PreprocessError, match=f"{name}.json"):
            vocabulary_size(path)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    assert "at most" in refusal(tmp_path / "huge.json")


def test_another_file_than_the_models_own(tokenizer_file, tmp_path):
    content = json.loads(tokenizer_file.read_text())
    content["model"]["vocab"]["##day"], content["model"]["vocab"]["at"] = 16, 15
    (other := tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert open_tokenizer(other).encode("at").ids == [15, 1]
    assert sha256(tokenizer_file) in refusal(other, sha256=sha256(tokenizer_file))


def test_ids_that_the_model_does_not_have(tokenizer_file, tmp_path):
    assert "ids below 27, as the model has them, found 27" in refusal(tokenizer_file, vocabulary=27)
    assert vocabulary_size(tokenizer_file) == 28
    content = json.loads(tokenizer_file.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 40, "content": "[MASK]"})
    (more := tmp_path / "more.json").write_text(json.dumps(content))
    assert vocabulary_size(more) == 41
    with pytest.raises(PreprocessError):
        open_tokenizer(more, vocabulary=28)


def test_a_vocabulary_without_the_unknown_token_it_names(tmp_path):
    from tokenizers import Tokenizer, models

    library = Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))
    library.save(str(path := tmp_path / "tokenizer.json"))
    opened = open_tokenizer(path)
    assert opened.encode("a").ids == [0]
    with pytest.raises(PreprocessError, match="unknown token"):
        opened.encode("b")


@given(st.data())
def test_damage_is_refused_or_harmless(tokenizer_file, tmp_path_factory, data):
    content = bytearray(tokenizer_file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), place]))])
    try:
        opened = open_tokenizer(path)
        opened.encode("am Dienstag")
        opened.decode([4, 5])
    except PreprocessError as error:
        assert "\n" not in str(error)


def test_ids_below_zero_are_no_tokens(tokenizer):
    with pytest.raises(PreprocessError, match=r"at least 0, found \[-1\]"):
        tokenizer.decode([-1])


def test_threads_share_one(tokenizer):
    texts = [f"am Dienstag um {number}" for number in range(40)]
    expected = [tokenizer.encode(text).ids for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert [found.ids for found in pool.map(tokenizer.encode, texts * 5)] == expected * 5


def test_without_the_package_its_extra_is_named(tokenizer_file):
    program = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from pathlib import Path\n"
        "from edgevit.errors import UnavailableError\n"
        "from edgevit.preprocess import open_tokenizer, vocabulary_size\n"
        f"path = Path({str(tokenizer_file)!r})\n"
        "print(vocabulary_size(path))\n"
        "try: open_tokenizer(path)\n"
        "except UnavailableError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("28\n")
    assert "pip install 'edgevit[text]'" in done.stdout
