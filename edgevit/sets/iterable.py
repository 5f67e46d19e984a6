"""What Python code of the user's yields, as a set: `package.module:function`.

Nothing but texts and paths is held in memory. What can be gone through again (a function that yields, an object whose
`__iter__` begins anew) is, once for every pass over the set; what comes only once is sampled while it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from edgevit.errors import InputError, PreprocessError, SetError
from edgevit.files.python import current_directory_first, find_function
from edgevit.sets.reservoir import Reservoir, Wanted
from edgevit.sets.sample import ItemSource, Kind, Sample, SampleSet, TensorSource, TextSource
from edgevit.sets.stream import Stream, StreamedImage, StreamedTensor

KINDS = (
    "an image (a path, a PIL image or uint8 (height, width[, channels])), a prepared float tensor (channels, height, "
    "width), a text, or a pair of one of them and its label"
)
Items: TypeAlias = "Iterable[Any] | Callable[[], Iterable[Any]]"


class _Row(msgspec.Struct, frozen=True):
    """A sample before all are known."""

    place: int
    kind: Kind
    label: str | None
    source: Any


def open_iterable(spec: str, most: Wanted | None = None) -> SampleSet:
    """Calls the function and goes through all that it yields; a pair is an item and its label, of a text also its
    translation.

    Of a stream that comes only once (a function that returns the same iterator every time) as many as `most` says are
    kept while it comes, and without a number all. Raises SetError for code that raises, yields nothing or a mixture,
    or other samples in another pass, and for items that are neither image nor text.
    """
    with _of_the_users(spec):
        function = find_function(spec)
        found: Any = function()
        items: Items = found
        if iter(found) is found and function() is not found:
            items = function  # type: ignore[assignment]
    return as_set(spec.rpartition(":")[2], items, spec, most)


def as_set(name: str, items: Items, where: str = "", most: Wanted | None = None) -> SampleSet:
    """Images, texts or prepared tensors, each alone or paired with its label, as a set.

    `items`: an iterable, or a function that gives one anew at every call. See `open_iterable`.
    """
    where = where or name
    reservoir: Reservoir[_Row] | None = None
    if callable(items) or not (isinstance(items, list | tuple | np.ndarray) or iter(items) is items):
        stream = Stream(where, items if callable(items) else lambda: items, lambda: _of_the_users(where))
        rows = _rows(where, stream.items(), stream)
    elif most is None or isinstance(items, list | tuple | np.ndarray):
        rows = _rows(where, _explained(where, items), None)
    else:
        reservoir = Reservoir(most)
        rows = _rows(where, _explained(where, items), None)
    return _set_of(name, where, rows, reservoir)


def _set_of(name: str, where: str, rows: Iterator[_Row], reservoir: Reservoir[_Row] | None) -> SampleSet:
    kept: list[_Row] = []
    labels: set[str] = set()
    total = unlabelled = first_unlabelled = 0
    kinds: set[Kind] = set()
    for row in rows:
        if row.label is None:
            first_unlabelled = first_unlabelled if unlabelled else row.place
            unlabelled += 1
        else:
            labels.add(row.label)
        kinds.add(row.kind)
        total += 1
        if reservoir is None:
            kept.append(row)
        else:
            reservoir.add(row.label or "", row.place, row)
    if not total:
        raise SetError(f"{where}: expected samples, found none; let it yield {KINDS}")
    if unlabelled and unlabelled < total:
        raise SetError(
            f"{where}: expected labels for all samples or for none, found none for number {first_unlabelled}"
        )
    if len(kinds) > 1:
        raise SetError(f"{where}: expected {KINDS}, all of one kind, found {' and '.join(sorted(kinds))}")
    width = len(str(total - 1))
    samples = [_sample(name, row, width) for row in (kept if reservoir is None else reservoir.chosen())]
    return SampleSet(name, tuple(samples), tuple(sorted(labels)))


def _sample(name: str, row: _Row, width: int) -> Sample:
    title = "row" if row.kind == "tensor" else name
    target = row.label if row.kind == "text" else None
    return Sample(f"{title} {row.place:0{width}d}", row.source, label=row.label, target=target)


def _rows(where: str, items: Iterable[Any], stream: Stream | None) -> Iterator[_Row]:
    for place, given in enumerate(items):
        item, label = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        kind = _kind(item)
        if kind is None:
            raise SetError(f"{where}: expected {KINDS}, all of one kind, found a {type(item).__name__}")
        source = _source(item, kind, where, place)
        if stream is not None and not isinstance(item, str | Path):
            source = _streamed(source, stream, place)
        yield _Row(place, kind, None if label is None else str(label), source)


def _source(item: Any, kind: Kind, where: str, place: int) -> Any:
    if kind == "text":
        return TextSource(item)
    if kind == "image":
        return ItemSource(item)
    tensor = np.asarray(item, dtype=np.float32)
    if not np.isfinite(tensor).all():
        raise SetError(f"set {where!r}: expected finite numbers, found NaN or infinity in row {place}; repair it")
    return TensorSource(tensor)


def _streamed(source: Any, stream: Stream, place: int) -> Any:
    """The same, read again when it is needed; what cannot be read now is found out then."""
    kind = StreamedTensor if isinstance(source, TensorSource) else StreamedImage
    try:
        digest = Sample("", source).digest
    except PreprocessError:
        digest = ""
    return kind(stream, place, digest)


def _kind(item: Any) -> Kind | None:
    if isinstance(item, str):
        return "text"
    if isinstance(item, np.ndarray):
        if item.dtype.kind == "f" and item.ndim == 3:
            return "tensor"
        return "image" if item.dtype == np.uint8 and item.ndim in (2, 3) else None
    return "image" if isinstance(item, Path | bytes) or hasattr(item, "getbbox") else None


def _explained(where: str, items: Iterable[Any]) -> Iterator[Any]:
    iterator = iter(items)
    while True:
        with _of_the_users(where):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def _of_the_users(where: str) -> Iterator[None]:
    """Runs the user's code, which may import from the current directory and raise anything."""
    try:
        with current_directory_first():
            yield
    except SetError:
        raise
    except InputError as error:
        raise SetError(str(error)) from error
    except Exception as error:  # The user's code may raise anything; the error keeps it as its cause.
        reason = " ".join(str(error).split())[:200]
        raise SetError(
            f"{where}: expected an iterable of samples, found that it raised {type(error).__name__}: {reason}; "
            "correct it"
        ) from error
