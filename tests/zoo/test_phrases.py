"""The phrases and their vocabularies: the splits are apart and what the grammar makes, and texts come back whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from edgevit.zoo.catalog import VOCABULARIES

PHRASES = Path(__file__).resolve().parents[2] / "edgevit" / "sets" / "phrases"
KINDS = {"date", "weekday", "time", "duration", "number", "measure", "currency", "country", "sentence"}
TAGS = {"other", "preposition", "article", "weekday", "month", "day", "year", "time", "number", "unit", "currency"}
TAGS |= {"country"}


def read(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PHRASES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, Any]]]:
    return {name: read(name) for name in ("calibration", "evaluation")}


def in_the_scripts(repository: Path, code: str) -> Any:
    """What `code` prints as JSON, run beside the training scripts."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository / "export" / "train", capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------- splits


def test_no_phrase_is_in_two_splits(splits: dict[str, list[dict[str, Any]]]) -> None:
    texts = [phrase["text"] for phrases in splits.values() for phrase in phrases]
    assert len(set(texts)) == len(texts) == 512 + 1400


def test_the_train_split_cannot_hold_a_committed_phrase(
    repository: Path, splits: dict[str, list[dict[str, Any]]]
) -> None:
    code = (
        "import json, make_phrases as m\n"
        "read = lambda s: [json.loads(x)['text'] for x in (m.PUBLISHED / f'{s}.jsonl').read_text().splitlines()]\n"
        "print(json.dumps({s: sorted({m.split_of(t) for t in read(s)}) for s in ('calibration', 'evaluation')}))"
    )
    assert in_the_scripts(repository, code) == {name: [name] for name in splits}


def test_the_committed_phrases_are_what_the_grammar_makes(
    repository: Path, splits: dict[str, list[dict[str, Any]]]
) -> None:
    code = (
        "import json, make_phrases as m\n"
        "made = m.make({'train': 100, 'calibration': 20, 'evaluation': 40})\n"
        "m.check_disjoint(made)\n"
        "print(json.dumps({name: [p._asdict() for p in phrases] for name, phrases in made.items()}))"
    )
    made = in_the_scripts(repository, code)
    assert made["calibration"] == splits["calibration"][:20]
    assert made["evaluation"] == splits["evaluation"][:40]
    assert len({phrase["text"] for phrase in made["train"]}) == 100


def test_every_word_has_a_tag_and_every_kind_is_there(splits: dict[str, list[dict[str, Any]]]) -> None:
    for phrases in splits.values():
        assert {phrase["kind"] for phrase in phrases} == KINDS
        assert {tag for phrase in phrases for tag in phrase["tags"]} == TAGS
        assert all(len(phrase["tags"]) == len(phrase["text"].split()) for phrase in phrases)
        assert all(phrase["target"] == " ".join(phrase["target"].split()) != "" for phrase in phrases)


def test_the_committed_splits_are_small() -> None:
    assert sum(path.stat().st_size for path in PHRASES.iterdir()) < 500_000


@pytest.mark.parametrize(
    ("number", "german", "english"),
    [
        (23, "dreiundzwanzig", "twenty-three"),
        (345_000, "dreihundertfünfundvierzigtausend", "three hundred and forty-five thousand"),
    ],
)
def test_numbers_are_words_of_both_languages(repository: Path, number: int, german: str, english: str) -> None:
    code = f"import json, german_words as g; print(json.dumps(g.spelled({number})))"
    assert in_the_scripts(repository, code) == [german, english]


@pytest.mark.parametrize(
    ("code", "to", "inside", "english"),
    [
        ("CH", "in die Schweiz", "in der Schweiz", "Switzerland"),
        ("FR", "nach Frankreich", "in Frankreich", "France"),
        ("NL", "in die Niederlande", "in den Niederlanden", "the Netherlands"),
        ("US", "in die Vereinigten Staaten", "in den Vereinigten Staaten", "the United States"),
        ("IR", "in den Iran", "im Iran", "Iran"),
        ("GB", "in das Vereinigte Königreich", "im Vereinigten Königreich", "the United Kingdom"),
        ("BS", "auf die Bahamas", "auf den Bahamas", "the Bahamas"),
    ],
)
def test_countries_bend_after_a_preposition(repository: Path, code: str, to: str, inside: str, english: str) -> None:
    script = (
        "import json, german_words as g\n"
        f"c = next(c for c in g.countries() if c.english == {english!r})\n"
        "print(json.dumps([' '.join(w for w, _ in c.after(p)) for p in ('to', 'in')]))"
    )
    assert in_the_scripts(repository, script) == [to, inside], code


# -------------------------------------------------------------------------------------------- vocabularies


@pytest.fixture(scope="module", params=["source", "target"])
def vocabulary(request: pytest.FixtureRequest) -> tuple[Tokenizer, str]:
    """The vocabulary and the field of a phrase that it is for."""
    field = {"source": "text", "target": "target"}[request.param]
    return Tokenizer.from_file(str(VOCABULARIES / f"{request.param}.json")), field


def test_a_text_comes_back_as_it_was(
    vocabulary: tuple[Tokenizer, str], splits: dict[str, list[dict[str, Any]]]
) -> None:
    tokenizer, field = vocabulary
    texts = [phrase[field] for phrases in splits.values() for phrase in phrases]
    encodings = tokenizer.encode_batch(texts)
    assert [tokenizer.decode(encoding.ids) for encoding in encodings] == texts
    assert not any(1 in encoding.ids for encoding in encodings), "nothing is unknown"
    assert max(len(encoding.ids) for encoding in encodings) <= 96


def test_the_special_tokens_and_the_size(vocabulary: tuple[Tokenizer, str]) -> None:
    tokenizer, _ = vocabulary
    assert [tokenizer.id_to_token(index) for index in range(4)] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert tokenizer.get_vocab_size() == 700
    assert tokenizer.encode("").ids == [3]
    assert tokenizer.encode("1 2 3").ids[-1] == 3
    assert 1 in tokenizer.encode("日本 1").ids, "what it cannot spell is unknown, not lost"


def test_a_word_is_what_stands_between_spaces(
    vocabulary: tuple[Tokenizer, str], splits: dict[str, list[dict[str, Any]]]
) -> None:
    tokenizer, field = vocabulary
    for phrase in splits["calibration"]:
        encoding = tokenizer.encode(phrase[field])
        assert encoding.word_ids[-1] is None
        assert list(dict.fromkeys(encoding.word_ids[:-1])) == list(range(len(phrase[field].split())))


def test_no_piece_holds_two_digits(vocabulary: tuple[Tokenizer, str]) -> None:
    tokenizer, _ = vocabulary
    assert not [piece for piece in tokenizer.get_vocab() if sum(sign.isdigit() for sign in piece) > 1]


def test_spaces_and_composed_letters_do_not_matter(vocabulary: tuple[Tokenizer, str]) -> None:
    tokenizer, _ = vocabulary
    assert tokenizer.encode("  1\u00a02 \n").ids == tokenizer.encode("1 2").ids
    assert tokenizer.encode("Fu\u0308nf").ids == tokenizer.encode("F\u00fcnf").ids
