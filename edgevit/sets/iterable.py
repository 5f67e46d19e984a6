"""What Python code of the user's yields, as a set: `package.module:function`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgevit.errors import InputError, SetError
from edgevit.files.python import current_directory_first, find_function
from edgevit.preprocess import load_image
from edgevit.sets.prepared import prepared_set
from edgevit.sets.sample import Sample, SampleSet, TextSource

KINDS = (
    "an image (a path, a PIL image or uint8 (height, width[, channels])), a prepared float tensor (channels, height, "
    "width), a text, or a pair of one of them and its label"
)


class ItemSource(msgspec.Struct, frozen=True, eq=False):
    """An image as the user's code gave it."""

    item: Any

    def read(self) -> Any:
        return load_image(self.item)


def open_iterable(spec: str) -> SampleSet:
    """Calls the function and takes all that it yields; a pair is an item and its label, of a text also its translation.

    Everything is held in memory. Raises SetError for code that raises, yields nothing or a mixture, and items that are
    neither image nor text.
    """
    return as_set(spec.rpartition(":")[2], _items(spec), spec)


def as_set(name: str, items: Iterable[Any], where: str = "") -> SampleSet:
    """An iterable of images, texts or prepared tensors, each alone or paired with its label, as a set."""
    pairs = [item if isinstance(item, tuple) and len(item) == 2 else (item, None) for item in items]
    where = where or name
    if not pairs:
        raise SetError(f"{where}: expected samples, found none; let it yield {KINDS}")
    unlabelled = [index for index, (_, label) in enumerate(pairs) if label is None]
    if unlabelled and len(unlabelled) < len(pairs):
        raise SetError(f"{where}: expected labels for all samples or for none, found none for number {unlabelled[0]}")
    labels = None if unlabelled else [str(label) for _, label in pairs]
    kinds = {_kind(item) for item, _ in pairs}
    if len(kinds) > 1 or "" in kinds:
        odd = next((item for item, _ in pairs if not _kind(item)), None)
        found = f"a {type(odd).__name__}" if odd is not None else " and ".join(sorted(kinds))
        raise SetError(f"{where}: expected {KINDS}, all of one kind, found {found}")
    content = [item for item, _ in pairs]
    if kinds == {"tensor"}:
        return prepared_set(name, content, labels)
    return _samples(name, content, labels, text=kinds == {"text"})


def _items(spec: str) -> list[Any]:
    try:
        with current_directory_first():
            found = find_function(spec)()
            return list(found)  # type: ignore[call-overload,no-any-return]
    except InputError as error:
        raise SetError(str(error)) from error
    except Exception as error:  # The user's code may raise anything; the error keeps it as its cause.
        reason = " ".join(str(error).split())[:200]
        raise SetError(
            f"{spec}: expected an iterable of samples, found that it raised {type(error).__name__}: {reason}; "
            "correct it"
        ) from error


def _samples(name: str, content: list[Any], labels: Sequence[str] | None, *, text: bool) -> SampleSet:
    width = len(str(len(content) - 1))
    samples = tuple(
        Sample(
            f"{name} {index:0{width}d}",
            TextSource(item) if text else ItemSource(item),
            label=None if labels is None else labels[index],
            target=labels[index] if text and labels is not None else None,
        )
        for index, item in enumerate(content)
    )
    return SampleSet(name, samples, tuple(sorted(set(labels or ()))))


def _kind(item: Any) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, np.ndarray):
        if item.dtype.kind == "f" and item.ndim == 3:
            return "tensor"
        return "image" if item.dtype == np.uint8 and item.ndim in (2, 3) else ""
    return "image" if isinstance(item, Path | bytes) or hasattr(item, "getbbox") else ""
