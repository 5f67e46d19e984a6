"""Files of texts as sets: JSON lines, CSV, or one text a line.

A row has a text and, for each task, its truth: a label, one tag per word, or a translation. A line that cannot be read
(no UTF-8, no JSON, nothing in it) becomes a sample that cannot be read, as a damaged image is; a file whose rows do not
fit together is refused when it is opened.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import SetError
from edgevit.sets.sample import BrokenText, Sample, SampleSet, TextSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgevit.types import Task

TEXT_SUFFIXES = (".jsonl", ".csv", ".txt")
COLUMNS = {"text": "text", "source": "text", "label": "label", "kind": "label", "tags": "tags", "target": "target"}
"""What a column is called in a file, to what it holds; others are passed over, files of texts often have some."""
TRUTHS: dict[Task, str] = {
    "text-classification": "label",
    "text-features": "",
    "token-classification": "tags",
    "translation": "target",
    "summarization": "target",
}
"""The column that a task's samples are judged by; none for features, which are compared with the reference's."""
_NAMED = 160
"""Characters of a text that its sample is named by, as it is shown among the worst ones."""
_QUOTED = 48
"""Characters of it that an error quotes."""


class _Row(msgspec.Struct, frozen=True):
    line: int
    text: str
    label: str | None = None
    tags: tuple[str, ...] | None = None
    target: str | None = None


class _Broken(msgspec.Struct, frozen=True):
    line: int
    reason: str


def open_texts(path: Path, task: Task | None = None) -> SampleSet:
    """The texts in `path`, in its order, with the truth that `task` is judged by; without a task with all there is.

    A sample is named after its text. Raises SetError, with the line, for a file without texts, rows that do not have
    the same columns, a truth of the wrong type, and tags that are not one per word.
    """
    rows = list(_rows(path))
    if not any(isinstance(row, _Row) for row in rows):
        found = next((f"in line {row.line} {row.reason}" for row in rows if isinstance(row, _Broken)), "no line")
        raise SetError(f"{path}: expected at least one text, found {found}; give a file with texts")
    samples = _named(rows, path.stem)
    samples_set = SampleSet(path.stem, samples, tuple(sorted({s.label for s in samples if s.label is not None})))
    return samples_set if task is None else for_task(samples_set, task, path)


def for_task(samples: SampleSet, task: Task, where: Path | str) -> SampleSet:
    """The same texts with the truth of one task alone; what else was a label still stratifies them.

    Raises SetError for a set of images, and for one that has truths but none for this task.
    """
    truth = TRUTHS.get(task)
    if samples.kind != "text" or truth is None:
        wanted = "images" if truth is None else "texts"
        raise SetError(
            f"{where}: expected a set of {wanted} for {task}, found one of {samples.kind}s; give another SET"
        )
    whole = [sample for sample in samples.samples if not isinstance(sample.source, BrokenText)]
    present = [
        name for name in dict.fromkeys(filter(None, TRUTHS.values())) if whole and getattr(whole[0], name) is not None
    ]
    if truth and present and truth not in present:
        raise SetError(
            f"{where}: expected the column {truth!r}, which {task} is judged by, found {', '.join(present)}; add it, "
            "or leave the texts without any for a comparison with the reference alone"
        )
    kept = tuple(_with_truth(sample, truth) for sample in samples.samples)
    labels = {sample.label for sample in kept} | {tag for sample in kept for tag in sample.tags or ()}
    return msgspec.structs.replace(samples, samples=kept, labels=tuple(sorted(label for label in labels if label)))


def _with_truth(sample: Sample, truth: str) -> Sample:
    return Sample(
        sample.name,
        sample.source,
        label=sample.label if truth == "label" else None,
        tags=sample.tags if truth == "tags" else None,
        target=sample.target if truth == "target" else None,
        stratum=sample.label or sample.stratum,
    )


def _named(rows: Sequence[_Row | _Broken], name: str) -> tuple[Sample, ...]:
    """A sample per row, each under a name of its own: its text, and its line where two texts begin alike."""
    seen: set[str] = set()
    samples = []
    for row in rows:
        if isinstance(row, _Broken):
            samples.append(Sample(f"{name}, line {row.line}", BrokenText(row.reason)))
            continue
        shown = row.text if len(row.text) <= _NAMED else f"{row.text[:_NAMED]}…"
        title = f"{shown} (line {row.line})" if shown in seen else shown
        seen.add(title)
        samples.append(Sample(title, TextSource(row.text), label=row.label, tags=row.tags, target=row.target))
    return tuple(samples)


# ------------------------------------------------------------------------------------------------- reading


def _rows(path: Path) -> Iterator[_Row | _Broken]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SetError(f"{path}: the file cannot be read: {error.strerror}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if path.suffix.lower() == ".txt":
        yield from _plain(data)
        return
    first: tuple[str, ...] | None = None
    for found in _jsonl(data, path) if path.suffix.lower() == ".jsonl" else _csv(data, path):
        if isinstance(found, _Broken):
            yield found
            continue
        line, columns = found
        have = tuple(sorted(columns))
        if first is None:
            first = have
        elif have != first:
            raise SetError(
                f"{path}:{line}: expected the columns {', '.join(first)} as in the rows before, found "
                f"{', '.join(have)}; give every row the same"
            )
        yield _row(line, columns, path)


def _plain(data: bytes) -> Iterator[_Row | _Broken]:
    for line, text in enumerate(data.rstrip().splitlines(), start=1):
        try:
            yield _checked(_Row(line, text.decode("utf-8").strip()))
        except UnicodeDecodeError as error:
            yield _Broken(line, _undecodable(error))


def _jsonl(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]] | _Broken]:
    for line, text in enumerate(data.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            text.decode("utf-8")
            row = msgspec.json.decode(text)
        except UnicodeDecodeError as error:
            yield _Broken(line, _undecodable(error))
            continue
        except msgspec.DecodeError as error:
            yield _Broken(line, f"expected JSON, found an error: {error}")
            continue
        if not isinstance(row, dict):
            raise SetError(
                f'{path}:{line}: expected an object like {{"text": …, "label": …}}, found {type(row).__name__}'
            )
        yield line, _columns(row, path, line)


def _csv(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """A byte that is no UTF-8 may stand in a quoted field of many lines: here the file itself is damaged."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SetError(f"{path}:{line}: {_undecodable(error)}; save the file as UTF-8") from error
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        if not {"text", "source"} & set(header):
            raise SetError(f"{path}:1: expected a column text or source, found {','.join(header) or 'nothing'}")
        for row in reader:
            if None in row or None in row.values():
                raise SetError(
                    f"{path}:{reader.line_num}: expected {len(header)} fields as in the header, found another number; "
                    "quote texts that hold a comma"
                )
            fields = {name.strip(): value for name, value in row.items()}
            columns = _columns(fields, path, reader.line_num)
            if "tags" in columns:
                columns["tags"] = columns["tags"].split()
            yield reader.line_num, columns
    except csv.Error as error:
        raise SetError(f"{path}: expected a CSV file, found an error: {error}") from error


def _columns(row: dict[str, Any], path: Path, line: int) -> dict[str, Any]:
    """What a row holds, by our names. SetError for a row without a text or with two of one meaning."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        meaning = COLUMNS.get(name)
        if meaning in found:
            raise SetError(f"{path}:{line}: expected one column for the {meaning}, found two; remove {name!r}")
        if meaning is not None:
            found[meaning] = value
    if "text" not in found:
        raise SetError(f"{path}:{line}: expected a column text or source, found {', '.join(map(str, row)) or 'none'}")
    return found


def _row(line: int, columns: dict[str, Any], path: Path) -> _Row | _Broken:
    try:
        row = msgspec.convert({"line": line, **columns}, _Row)
    except msgspec.ValidationError as error:
        raise SetError(
            f"{path}:{line}: {str(error).replace(' - at `$.', ' in ').rstrip('`')}; correct the row"
        ) from error
    for name in ("label", "target"):
        if getattr(row, name) is not None and not getattr(row, name).strip():
            raise SetError(f"{path}:{line}: expected a {name} for {row.text[:_QUOTED]!r}, found an empty one; add it")
    words = len(row.text.split())
    if row.tags is not None and len(row.tags) != words:
        raise SetError(
            f"{path}:{line}: expected {words} tags, one per word of {row.text[:_QUOTED]!r}, found {len(row.tags)}"
        )
    return _checked(row)


def _checked(row: _Row) -> _Row | _Broken:
    return row if row.text.strip() else _Broken(row.line, "expected a text, found an empty one")


def _undecodable(error: UnicodeDecodeError) -> str:
    return f"expected UTF-8, found byte {error.object[error.start]:#04x} at {error.start} ({error.reason})"
