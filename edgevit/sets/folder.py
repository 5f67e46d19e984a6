"""Folders of images as sets: class folders, a flat folder, or a folder with a file of labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgevit.errors import SetError
from edgevit.files import check_relative
from edgevit.sets.sample import FileSource, Sample, SampleSet

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".avif")
"""A file is an image by its name; others are passed over, and so is every name that begins with a dot."""

LABEL_FILES = ("labels.csv", "labels.jsonl")


class LabelRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of labels.jsonl; labels.csv has the same two columns."""

    filename: str
    label: str | int


def open_folder(folder: Path) -> SampleSet:
    """The images below a folder, sorted by their path, which is also their name.

    Labels come from labels.csv or labels.jsonl where there is one, otherwise from the first folder on an image's
    path; images directly in the folder have none. Raises SetError for a folder without images, for images both
    beside and in class folders, for links that lead elsewhere, and for rows and images that do not match.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in _images(folder, folder.resolve())}
    if not paths:
        raise SetError(
            f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), found "
            f"{'other files only' if any(folder.iterdir()) else 'an empty folder'}"
        )
    files = [folder / name for name in LABEL_FILES if (folder / name).is_file()]
    if len(files) > 1:
        raise SetError(f"{folder}: expected one file of labels, found {' and '.join(LABEL_FILES)}; remove one of them")
    labels = _labels_of_file(files[0], paths) if files else _labels_of_folders(folder, paths)
    samples = tuple(Sample(name, FileSource(paths[name]), labels.get(name)) for name in sorted(paths))
    return SampleSet(folder.resolve().name, samples, tuple(sorted(set(labels.values()))))


def _images(folder: Path, root: Path) -> Iterator[Path]:
    """Image files below `folder`. A link may lead to a file inside `root` and nowhere else."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SetError(f"{folder}: the folder cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        directory = entry.is_dir()
        if not directory and entry.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if entry.is_symlink() and (directory or not entry.resolve().is_relative_to(root)):
            raise SetError(
                f"{entry} is a link that leads out of the set's folder or to another folder; expected the images "
                "themselves, so replace the link by what it names"
            )
        if directory:
            yield from _images(entry, root)
        else:
            yield entry


def _labels_of_folders(folder: Path, paths: dict[str, Path]) -> dict[str, str]:
    flat = [name for name in paths if "/" not in name]
    if flat and len(flat) < len(paths):
        raise SetError(
            f"{folder}: expected images either in class folders or directly in the folder, found {len(flat)} beside "
            f"class folders, first {flat[0]!r}; move them into a class folder, or add labels.csv"
        )
    return {} if flat else {name: name.split("/", 1)[0] for name in paths}


def _labels_of_file(file: Path, paths: dict[str, Path]) -> dict[str, str]:
    """File name to label; every image must have one row, and every row an image."""
    rows = _csv_rows(file) if file.suffix == ".csv" else _jsonl_rows(file)
    labels: dict[str, str] = {}
    for line, row in rows:
        check_relative(row.filename, file, SetError)
        if row.filename in labels:
            raise SetError(f"{file}:{line}: expected one row per image, found {row.filename!r} again")
        if row.filename not in paths:
            raise SetError(f"{file}:{line}: expected the name of an image in {file.parent}, found {row.filename!r}")
        if row.label == "":
            raise SetError(f"{file}:{line}: expected a label for {row.filename!r}, found none")
        labels[row.filename] = str(row.label)
    missing = [name for name in paths if name not in labels]
    if missing:
        raise SetError(
            f"{file}: {len(missing)} of {len(paths)} images have no row, first {missing[0]!r}; expected a label for "
            "each, so add the rows or remove the images"
        )
    return labels


def _csv_rows(file: Path) -> Iterator[tuple[int, LabelRow]]:
    """Rows with their line numbers. Other columns are allowed, because tables of labels often carry more."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            if not {"filename", "label"} <= set(columns):
                raise SetError(f"{file}:1: expected the columns filename,label, found {','.join(columns) or 'nothing'}")
            for row in reader:
                yield reader.line_num, LabelRow(row["filename"] or "", row["label"] or "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetError(f"{file}: expected a CSV file in UTF-8: {error}") from error


def _jsonl_rows(file: Path) -> Iterator[tuple[int, LabelRow]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise SetError(f"{file}: the file cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line, type=LabelRow)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SetError(f'{file}:{number}: expected {{"filename": …, "label": …}}: {error}') from error
