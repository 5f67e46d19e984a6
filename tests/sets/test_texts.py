"""Files of texts: what is read from each form, what a task takes of it, and what is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import SetError
from edgevit.preprocess import Tokenizer, open_tokenizer
from edgevit.sets import (
    SampleSet,
    batches,
    check_disjoint,
    coverage,
    label_indices,
    open_set,
    skip_corrupt,
    take,
    unpadded_batches,
)
from edgevit.types import UNTAGGED, ImagePreprocess, TextPreprocess

PHRASES = [
    {"text": "am Dienstag", "target": "on Tuesday", "kind": "day", "tags": ["O", "DAY"]},
    {"text": "am 3. März", "target": "on March 3", "kind": "date", "tags": ["O", "DAY", "MONTH"]},
    {"text": "Dienstag", "target": "Tuesday", "kind": "day", "tags": ["DAY"]},
    {"text": "im März", "target": "in March", "kind": "date", "tags": ["O", "MONTH"]},
]


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def phrases(tmp_path: Path) -> Path:
    return lines(tmp_path / "phrases.jsonl", PHRASES)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return open_tokenizer(tokenizer_file)


SPEC = TextPreprocess(max_length=64)


# ------------------------------------------------------------------------------------------------- opening


def test_a_task_takes_the_column_it_is_judged_by(phrases: Path) -> None:
    kinds = open_set(phrases, "text-classification")
    assert [sample.label for sample in kinds.samples] == ["day", "date", "day", "date"]
    assert kinds.labels == ("date", "day")
    tags = open_set(phrases, "token-classification")
    assert tags.labels == ("DAY", "MONTH", "O")
    assert tags.samples[1].tags == ("O", "DAY", "MONTH")
    assert {sample.label for sample in tags.samples} == {None}
    translations = open_set(phrases, "translation")
    assert translations.labels == ()
    assert translations.labelled
    assert [sample.target for sample in translations.samples] == [row["target"] for row in PHRASES]
    assert [sample.text() for sample in translations.samples] == [row["text"] for row in PHRASES]


def test_one_content_has_one_digest_in_every_form(phrases: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "id,source,target,label,tags\n"
        + "".join(
            f'{n},"{r["text"]}",{r["target"]},{r["kind"]},{" ".join(r["tags"])}\n' for n, r in enumerate(PHRASES)
        ),  # type: ignore[arg-type]
        encoding="utf-8-sig",
    )
    plain = tmp_path / "plain.txt"
    plain.write_text("".join(f"{row['text']}\n" for row in PHRASES) + "\n", encoding="utf-8")
    one, two, three = open_set(phrases), open_set(table), open_set(plain)
    digests = [[sample.digest for sample in samples.samples] for samples in (one, two, three)]
    assert digests[0] == digests[1] == digests[2]
    assert one.digest == two.digest != three.digest
    assert not three.labelled
    assert open_set(table, "token-classification").samples[1].tags == ("O", "DAY", "MONTH")


def test_a_set_knows_its_truth_by_content(phrases: Path, tmp_path: Path) -> None:
    changed = [{**PHRASES[0], "target": "Tuesday, on"}, *PHRASES[1:]]
    other = lines(tmp_path / "other.jsonl", changed)
    assert open_set(phrases, "translation").digest != open_set(other, "translation").digest
    assert open_set(phrases, "text-classification").digest == open_set(other, "text-classification").digest


def test_samples_are_named_by_their_text_once(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("ja\nnein\nja\n" + "x" * 200 + "\n", encoding="utf-8")
    names = [sample.name for sample in open_set(path).samples]
    assert names == ["ja", "nein", "ja (line 3)", "x" * 160 + "…"]


def test_manifests_name_files_of_texts(phrases: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "set.toml"
    manifest.write_text('set = "phrases.jsonl"\ncount = 2\nseed = 3\n')
    found = open_set(manifest, "translation")
    assert (found.name, len(found)) == ("set", 2)


def test_a_share_is_stratified_by_what_the_file_calls_a_label(tmp_path: Path) -> None:
    rows = [{"text": f"{kind} {n}", "target": "x", "kind": kind} for n in range(8) for kind in ("a", "a", "a", "b")]
    path = lines(tmp_path / "many.jsonl", [{**row, "text": f"{row['text']} {n}"} for n, row in enumerate(rows)])
    share = take(open_set(path, "translation"), 8, seed=1)
    assert sum(sample.text().startswith("b") for sample in share.samples) == 2
    assert [s.name for s in share.samples] == [s.name for s in take(open_set(path, "translation"), 8, seed=1).samples]
    assert [s.name for s in share.samples] != [s.name for s in take(open_set(path, "translation"), 8, seed=2).samples]


def test_coverage_counts_the_texts_that_have_a_tag(phrases: Path) -> None:
    assert coverage(open_set(phrases, "token-classification")) == {"DAY": 3, "MONTH": 2, "O": 3}


def test_a_text_in_both_sets_is_found_in_another_form(phrases: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("  im März \nübermorgen\n", encoding="utf-8")
    with pytest.raises(
        SetError, match=r"1 of 2 texts of the calibration set 'plain' are also in .*'im März' = 'im März'"
    ):
        check_disjoint(open_set(plain), open_set(phrases))


# -------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b"", r"a\.jsonl: expected at least one text, found no line"),
        ("a.jsonl", b"\n \n", "expected at least one text, found no line"),
        ("a.txt", b"\n\n", "expected at least one text"),
        (
            "a.jsonl",
            b'{"text": "a", "label": "x"}\n{"text": "b"}',
            r"a\.jsonl:2: expected the columns label, text as in",
        ),
        ("a.jsonl", b'{"label": "x"}', r":1: expected a column text or source, found label"),
        ("a.jsonl", b'{"text": "a", "source": "b"}', "expected one column for the text, found two; remove 'source'"),
        ("a.jsonl", b"[1]", r":1: expected an object like .*, found list"),
        ("a.jsonl", b'{"text": 3}', r":1: expected `?str`?, got `?int`? in text; correct the row|:1: Expected `str`"),
        ("a.jsonl", b'{"text": "a b", "tags": ["X"]}', r":1: expected 2 tags, one per word of 'a b', found 1"),
        ("a.jsonl", b'{"text": "a", "label": " "}', r":1: expected a label for 'a', found an empty one"),
        ("a.jsonl", b'{"text": "a", "target": ""}', r":1: expected a target for 'a', found an empty one"),
        ("a.csv", b"words,label\na,b\n", r"a\.csv:1: expected a column text or source, found words,label"),
        ("a.csv", b"text,label\na\n", r"a\.csv:2: expected 2 fields as in the header"),
        ("a.csv", b"text,label\na,b,c\n", r"a\.csv:2: expected 2 fields as in the header"),
        ("a.csv", b"text\nok\n\xff\n", r"a\.csv:3: expected UTF-8, found byte 0xff at 8"),
        ("a.csv", b'text\n"a', "expected a CSV file, found an error"),
    ],
)
def test_a_file_whose_rows_do_not_fit_is_refused(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SetError, match=expected) as caught:
        open_set(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_lines_that_cannot_be_read_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "gut"}\n{"text": "\xff"}\n{"text": "  "}\n{"text"\n')
    opened = open_set(path)
    with pytest.raises(
        SetError, match=r"3 of 4 texts cannot be read; first 'bad, line 2': expected UTF-8, found byte 0xff at 10"
    ):
        _ = opened.digest
    kept = skip_corrupt(opened)
    assert [sample.name for sample in kept.samples] == ["gut"]
    assert kept.skipped == ("bad, line 2", "bad, line 3", "bad, line 4")
    manifest = tmp_path / "set.toml"
    manifest.write_text('set = "bad.jsonl"\nskip_corrupt = true\n')
    assert len(open_set(manifest, "translation")) == 1


def test_a_set_of_another_kind_or_with_another_truth(phrases: Path, tmp_path: Path) -> None:
    with pytest.raises(SetError, match="expected a set of images for image-classification, found one of texts"):
        open_set(phrases, "image-classification")
    with pytest.raises(SetError, match="expected a set of texts for translation, found one of images"):
        open_set("zoo:digits-vit:evaluation", "translation")
    path = lines(tmp_path / "kinds.jsonl", [{"text": "a", "label": "x"}])
    with pytest.raises(SetError, match="expected the column 'target', which translation is judged by, found label"):
        open_set(path, "translation")


def test_labels_that_the_model_does_not_have(phrases: Path) -> None:
    with pytest.raises(SetError, match=r"the model has no label 'day'; expected labels among .*rename them in the set"):
        label_indices(open_set(phrases, "text-classification"), ("date", "other"))


# -------------------------------------------------------------------------------------------------- batches


def only(
    samples: SampleSet, tokenizer: Tokenizer, size: int = 3, labels: tuple[str, ...] | None = None
) -> list[object]:
    return list(batches(samples, SPEC, size, tokenizer=tokenizer, labels=labels))


def test_texts_become_padded_batches_with_their_words(phrases: Path, tokenizer: Tokenizer) -> None:
    first, second = only(open_set(phrases, "translation"), tokenizer)
    assert (len(first), len(second)) == (3, 1)
    assert first.inputs["input_ids"].dtype == first.inputs["attention_mask"].dtype == np.int64
    assert list(first.lengths) == first.inputs["attention_mask"].sum(1).tolist()
    assert first.words.sum(1).tolist() == [2, 3, 1]
    assert first.labels == tuple(row["target"] for row in PHRASES[:3])


def test_tags_stand_on_the_first_token_of_their_word(phrases: Path, tokenizer: Tokenizer) -> None:
    model = ("O", "MONTH", "DAY", "UNIT")
    (batch,) = only(open_set(phrases, "token-classification"), tokenizer, 4, model)
    assert ((batch.labels != UNTAGGED) == batch.words).all()
    assert batch.labels[1][batch.words[1]].tolist() == [0, 2, 1]


def test_a_batch_without_padding_holds_texts_of_one_length(phrases: Path, tokenizer: Tokenizer) -> None:
    found = list(unpadded_batches(open_set(phrases, "translation"), SPEC, 2, tokenizer))
    assert all(batch.inputs["attention_mask"].all() for batch in found)
    assert sorted(name for batch in found for name in batch.names) == sorted(str(row["text"]) for row in PHRASES)
    lengths = [batch.lengths[0] for batch in found]
    assert lengths == sorted(lengths)


def test_a_model_reads_one_kind(phrases: Path, tokenizer: Tokenizer) -> None:
    images = ImagePreprocess(size=(8, 8), mean=(0.5,), std=(0.5,), mode="L")
    with pytest.raises(SetError, match="expected images, which the model reads, found texts"):
        batches(open_set(phrases), images, 2)
    with pytest.raises(SetError, match="expected texts, which the model reads, found images"):
        batches(open_set("zoo:digits-vit:evaluation"), SPEC, 2, tokenizer=tokenizer)


def test_a_text_that_is_too_long_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "long.txt"
    path.write_text("kurz\n" + "März " * 80 + "\n", encoding="utf-8")
    with pytest.raises(SetError, match=r"1 of 2 texts cannot be read; first 'März .*expected at most 64 tokens"):
        list(batches(open_set(path), SPEC, 4, tokenizer=tokenizer))
