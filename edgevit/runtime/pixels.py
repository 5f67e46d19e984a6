"""Raw images through a build that holds their preprocessing: checked, and those of one size in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError
from edgevit.types import PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from edgevit.types import Arrays, ImagePreprocess

LARGEST_CALL = 1 << 23
"""Pixels that go into the engine at a time where there are several images: in float32 they are 100 MB."""


def check_pixels(pixels: NDArray[Any], spec: ImagePreprocess) -> None:
    """Raises InputError for uint8 (batch, height, width, 3) whose resized image would be too large.

    Beyond these bounds the graph's int32 positions would overflow (OpenVINO has no wider ones).
    """
    from edgevit.preprocess import MAX_PIXELS, geometry

    _, height, width, _ = pixels.shape
    place = geometry(height, width, spec)
    extreme = max(height * place.height, width * place.width) >= 1 << 30
    if height * width > MAX_PIXELS or place.width * max(place.height, height) > MAX_PIXELS or extreme:
        raise InputError(
            f"expected {PIXELS} of a size that can be resized to {place.height} x {place.width}, found "
            f"{height} x {width}; scale the image down, or crop it to a less extreme shape first"
        )


def run_images(
    run: Callable[[Arrays], Arrays], images: Sequence[NDArray[Any]], spec: ImagePreprocess, batch: int | None
) -> Arrays:
    """Outputs by name, in the order of `images`, uint8 (height, width, 3) each; there is at least one.

    Images of one size share a call. A build of fixed `batch` gets its last image again where too few are of one size.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    for places in _calls(images, batch):
        filled = [*places, *places[-1:] * (0 if batch is None else batch - len(places))]
        pixels = np.stack([images[place] for place in filled])
        check_pixels(pixels, spec)
        for name, values in run({PIXELS: pixels}).items():
            rows = found.setdefault(name, [np.empty(0)] * len(images))
            for place, row in zip(places, values, strict=False):  # what only filled the batch is left out
                rows[place] = row
    return {name: np.stack(rows) for name, rows in found.items()}


def as_pixels(item: Any) -> NDArray[np.uint8]:
    """A file, bytes, a Pillow image or an array as uint8 (height, width, 3); a frame of that form as it is."""
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3 and item.size:
        return item
    from edgevit.preprocess import raw_pixels

    return raw_pixels(item)


def _calls(images: Sequence[NDArray[Any]], batch: int | None) -> Iterator[list[int]]:
    """Places of images that go into one call."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    for (height, width, _), places in sizes.items():
        step = batch or max(1, LARGEST_CALL // (height * width))
        for start in range(0, len(places), step):
            yield places[start : start + step]
