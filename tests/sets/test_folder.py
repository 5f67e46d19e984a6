"""Folders as sets: labels, order, and what a folder must not be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.errors import SetError
from edgevit.sets import open_set

MakeImages = Callable[..., Path]


def names_and_labels(folder: Path) -> list[tuple[str, str | None]]:
    return [(sample.name, sample.label) for sample in open_set(folder).samples]


def test_class_folders_give_labels(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["dog/b.png", "cat/2.JPG", "cat/1.bmp", "cat/deep/3.png"])
    samples = open_set(str(tmp_path))
    assert samples.labelled
    assert samples.labels == ("cat", "dog")
    assert samples.name == tmp_path.name
    assert names_and_labels(tmp_path) == [
        ("cat/1.bmp", "cat"),
        ("cat/2.JPG", "cat"),
        ("cat/deep/3.png", "cat"),
        ("dog/b.png", "dog"),
    ]
    assert samples.samples[0].image().size == (8, 6)


def test_a_flat_folder_has_no_labels(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["b.png", "a.png"])
    samples = open_set(tmp_path)
    assert not samples.labelled
    assert samples.labels == ()
    assert names_and_labels(tmp_path) == [("a.png", None), ("b.png", None)]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png", ".hidden.png", ".cache/b.png"])
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "notes").mkdir()
    assert names_and_labels(tmp_path) == [("a.png", None)]


def test_a_relative_folder_is_named_after_itself(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "val", ["a.png"])
    monkeypatch.chdir(tmp_path / "val")
    assert open_set(".").name == "val"


def test_labels_csv_labels_a_flat_folder(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png", "b.png", "sub/c.png"])
    rows = 'label,filename,other\n"cat, small",a.png,1\ndog,b.png,2\ndog,sub/c.png,3\n'
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8-sig")
    assert open_set(tmp_path).labels == ("cat, small", "dog")
    assert names_and_labels(tmp_path) == [("a.png", "cat, small"), ("b.png", "dog"), ("sub/c.png", "dog")]


def test_labels_jsonl_labels_a_flat_folder(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.jsonl").write_text('{"filename": "b.png", "label": "ü"}\n\n{"filename":"a.png","label":3}\n')
    assert names_and_labels(tmp_path) == [("a.png", "3"), ("b.png", "ü")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"labels\.csv:1: expected the columns filename,label, found nothing"),
        ("file,label\na.png,x\n", r"labels\.csv:1: expected the columns filename,label, found file,label"),
        ("filename,label\na.png,x\n", r"labels\.csv: 1 of 2 images have no row, first 'b\.png'"),
        ("filename,label\na.png,x\nb.png,\n", r"labels\.csv:3: expected a label for 'b\.png'"),
        ("filename,label\na.png,x\nb.png\n", r"labels\.csv:3: expected a label for 'b\.png'"),
        ("filename,label\na.png,x\na.png,y\nb.png,y\n", r"labels\.csv:3: expected one row per image, found 'a\.png'"),
        ("filename,label\na.png,x\nb.png,x\nc.png,x\n", r"labels\.csv:4: expected the name of an image .*'c\.png'"),
        ("filename,label\n../a.png,x\n", r"labels\.csv' names the path '\.\./a\.png'"),
        ("filename,label\n/etc/a.png,x\n", r"labels\.csv' names the path '/etc/a\.png'"),
        ('filename,label\n"a.png,x\n', r"labels\.csv: expected a CSV file in UTF-8"),
        (b"filename,label\na.png,\xff\n", r"labels\.csv: expected a CSV file in UTF-8"),
    ],
)
def test_a_wrong_labels_csv_names_its_line(
    content: str | bytes, message: str, tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SetError, match=message) as error:
        open_set(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", ['{"filename": "a.png"}', '{"filename": "a.png", "label": "x", "lable": 1}', "not json", '{"filename": 1}']
)
def test_a_wrong_labels_jsonl_names_its_line(line: str, tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png"])
    (tmp_path / "labels.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(SetError, match=r"labels\.jsonl:2: expected \{.filename"):
        open_set(tmp_path)


def test_two_files_of_labels_are_refused(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png"])
    for name in ("labels.csv", "labels.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(SetError, match="expected one file of labels"):
        open_set(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SetError, match=r"expected images \(\.png.*found an empty folder"):
        open_set(tmp_path)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "cat").mkdir()
    with pytest.raises(SetError, match="found other files only"):
        open_set(tmp_path)


def test_images_beside_class_folders_are_refused(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["cat/a.png", "stray.png", "another.png"])
    with pytest.raises(SetError, match=r"found 2 beside class folders, first 'another\.png'"):
        open_set(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, make_images: MakeImages) -> None:
    outside = make_images(tmp_path / "outside", ["secret.png"])
    folder = make_images(tmp_path / "set", ["a.png"])
    (folder / "inner.png").symlink_to(folder / "a.png")
    assert len(open_set(folder)) == 2
    (folder / "b.png").symlink_to(outside / "secret.png")
    with pytest.raises(SetError, match=r"b\.png is a link that leads out of the set's folder"):
        open_set(folder)


def test_a_link_to_a_folder_is_refused_so_that_none_is_a_circle(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "set", ["cat/a.png"])
    (folder / "dog").symlink_to(folder, target_is_directory=True)
    with pytest.raises(SetError, match="dog is a link"):
        open_set(folder)


def test_a_link_that_leads_nowhere_is_found_when_it_is_read(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "set", ["a.png"])
    (folder / "b.png").symlink_to(folder / "gone.png")
    with pytest.raises(SetError, match=r"1 of 2 images cannot be read; first 'b\.png'"):
        _ = open_set(folder).digest
