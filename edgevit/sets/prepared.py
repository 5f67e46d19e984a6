"""`.npz` of prepared tensors as sets: rows that are the model's input already, and their labels."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import PreprocessError, SetError
from edgevit.sets.sample import Sample, SampleSet, TensorSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgevit.types import FloatArray

LABELS = "labels"


def open_prepared(path: Path) -> SampleSet:
    """The rows of the one array of floats in a `.npz`, (samples, channels, height, width), and its `labels` if any.

    The file is read whole. Raises SetError for a damaged file, one with objects in it, another number of arrays or of
    dimensions, and labels that are not one per row.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SetError(f"{path}: expected arrays in a .npz file, found: {error}; write it with numpy.savez") from error
    labels = arrays.pop(LABELS, None)
    if len(arrays) != 1:
        raise SetError(
            f"{path}: expected one array of prepared tensors and perhaps {LABELS!r}, found "
            f"{', '.join(sorted(arrays)) or 'none'}; keep the model's input"
        )
    ((name, rows),) = arrays.items()
    if rows.ndim != 4 or rows.dtype not in (np.float32, np.float16, np.float64) or not len(rows):
        raise SetError(
            f"{path}: expected {name} as floats (samples, channels, height, width), found {rows.dtype} {rows.shape}; "
            "give images as a folder and texts as .jsonl, .csv or .txt"
        )
    if labels is not None and labels.shape != (len(rows),):
        raise SetError(f"{path}: expected {len(rows)} {LABELS}, one per row of {name}, found shape {labels.shape}")
    return prepared_set(path.stem, rows, None if labels is None else [str(label) for label in labels.tolist()])


def prepared_set(name: str, rows: Any, labels: Sequence[str] | None) -> SampleSet:
    """Rows (samples, channels, height, width) as a set; a sample is named by its number. SetError for NaN in one."""
    width = len(str(len(rows) - 1))
    samples = []
    for index, row in enumerate(rows):
        tensor = np.asarray(row, dtype=np.float32)
        if not np.isfinite(tensor).all():
            raise SetError(f"set {name!r}: expected finite numbers, found NaN or infinity in row {index}; repair it")
        label = None if labels is None else labels[index]
        samples.append(Sample(f"row {index:0{width}d}", TensorSource(tensor), label))
    return SampleSet(name, tuple(samples), tuple(sorted(set(labels or ()))))


def tensor_of(sample: Sample, shape: tuple[int, int, int]) -> FloatArray:
    """A prepared row, which must be of the model's shape. Raises PreprocessError, naming both."""
    row: FloatArray = sample.source.read()
    if row.shape != shape:
        raise PreprocessError(
            f"expected prepared tensors of {' x '.join(map(str, shape))} (channels, height, width), found "
            f"{' x '.join(map(str, row.shape))}; prepare them as the model's preprocessing does"
        )
    return row
