"""From what a set calls its classes (`n01440764`, `0`) to what the model calls them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import SetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgevit.sets.sample import Sample, SampleSet

COLUMNS = ("set", "model")
NAMED = 3


def read_label_map(path: Path) -> dict[str, str]:
    """The set's label to the model's: an object in .json, a table in .toml, or the columns set,model in .csv.

    Raises SetError, naming the file, for anything else.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            found: Any = dict(_csv_rows(path))
        elif suffix == ".toml":
            found = msgspec.toml.decode(path.read_bytes())
        else:
            found = msgspec.json.decode(path.read_bytes())
        labels = msgspec.convert(found, dict[str, str | int], strict=False)
    except OSError as error:
        raise SetError(f"{path}: expected a map of labels, which cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, csv.Error) as error:
        raise SetError(
            f'{path}: expected a map of labels, {{"set\'s label": "model\'s label"}} in JSON or TOML or the columns '
            f"set,model in CSV, found: {' '.join(str(error).split())}"
        ) from error
    if not labels:
        raise SetError(f"{path}: expected a map of labels, found an empty one; add a line for each label of the set")
    return {name: str(label) for name, label in labels.items()}


def with_label_map(samples: SampleSet, labels: Mapping[str, str], where: Path | str) -> SampleSet:
    """The set with every label, or tag, replaced by the model's. Labels that the map has beyond the set's are fine.

    Raises SetError for labels of the set that the map lacks, and for a set that has no labels to map.
    """
    if not samples.labels:
        raise SetError(
            f"{where}: expected a set with labels to map, found {samples.name!r} without any; leave --label-map out"
        )
    missing = [label for label in samples.labels if label not in labels]
    if missing:
        shown = ", ".join(map(repr, missing[:NAMED])) + (", …" if len(missing) > NAMED else "")
        raise SetError(
            f"{where}: expected a line for each of the {len(samples.labels)} labels of the set {samples.name!r}, found "
            f"none for {len(missing)} of them ({shown}); add them"
        )
    mapped = tuple(_mapped(sample, labels) for sample in samples.samples)
    return msgspec.structs.replace(
        samples, samples=mapped, labels=tuple(sorted({labels[label] for label in samples.labels}))
    )


def _mapped(sample: Sample, labels: Mapping[str, str]) -> Sample:
    return msgspec.structs.replace(
        sample,
        label=None if sample.label is None else labels[sample.label],
        tags=None if sample.tags is None else tuple(labels[tag] for tag in sample.tags),
    )


def _csv_rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise SetError(f"{path}:1: expected the columns set,model, found {','.join(reader.fieldnames or ())}")
        return [(row["set"], row["model"]) for row in reader]
