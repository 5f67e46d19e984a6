"""Maps from a set's labels to the model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.errors import SetError
from edgevit.sets import label_places, open_set, read_label_map, with_label_map


def texts(path: Path) -> Path:
    path.write_text('{"text": "a b", "label": "0"}\n{"text": "c d", "label": "1"}\n{"text": "e", "label": "1"}\n')
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("map.json", '{"0": "no", "1": "yes", "2": "perhaps"}'),
        ("map.toml", '0 = "no"\n1 = "yes"'),
        ("map.csv", "set,model\n0,no\n1,yes\n"),
    ],
)
def test_every_form_maps_labels(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    samples = open_set(texts(tmp_path / "texts.jsonl"))
    mapped = with_label_map(samples, read_label_map(tmp_path / name), name)
    assert [sample.label for sample in mapped.samples] == ["no", "yes", "yes"]
    assert mapped.labels == ("no", "yes")
    assert label_places(mapped, ("yes", "no")) == {"no": 1, "yes": 0}
    assert mapped.digest != samples.digest


def test_tags_are_mapped_too_and_two_labels_may_become_one(tmp_path: Path) -> None:
    (tmp_path / "tags.jsonl").write_text('{"text": "a b c", "tags": ["B", "I", "O"]}\n')
    samples = open_set(tmp_path / "tags.jsonl", "token-classification")
    mapped = with_label_map(samples, {"B": "name", "I": "name", "O": "other"}, "map")
    assert mapped.samples[0].tags == ("name", "name", "other")
    assert mapped.labels == ("name", "other")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("map.json", "{", "expected a map of labels"),
        ("map.json", '["a"]', "expected a map of labels"),
        ("map.json", '{"0": ["no"]}', "expected a map of labels"),
        ("map.json", "{}", "found an empty one"),
        ("map.toml", "0 = [", "expected a map of labels"),
        ("map.csv", "a,b\n0,no\n", "expected the columns set,model, found a,b"),
    ],
)
def test_what_is_no_map(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SetError, match=words) as caught:
        read_label_map(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(SetError, match="cannot be read"):
        read_label_map(tmp_path / "absent.json")


def test_a_map_that_does_not_fit(tmp_path: Path) -> None:
    samples = open_set(texts(tmp_path / "texts.jsonl"))
    with pytest.raises(SetError, match=r"the 2 labels of the set 'texts', found none for 1 of them \('1'\)"):
        with_label_map(samples, {"0": "no"}, "map.json")
    (tmp_path / "plain.txt").write_text("a b\n")
    with pytest.raises(SetError, match="without any; leave --label-map out"):
        with_label_map(open_set(tmp_path / "plain.txt"), {"0": "no"}, "map.json")
