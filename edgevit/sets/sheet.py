"""Sheets: a PNG grid of equal tiles and the names of what is on it, so that a whole split is one viewable file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from edgevit.errors import PreprocessError, SetError
from edgevit.files import check_relative, inside
from edgevit.preprocess import load_image
from edgevit.sets.sample import Kind, Sample, SampleSet
from edgevit.types import Value

if TYPE_CHECKING:
    from PIL.Image import Image


class SheetManifest(Value, frozen=True, kw_only=True):
    """The table `[sheet]` of a manifest; tiles are read row by row, from the top left."""

    image: str
    """Path of the grid, relative to the manifest and inside its folder."""
    tile: tuple[int, int]
    """(height, width) of one tile, pixels."""
    columns: int
    names: tuple[str, ...]
    """One per tile, unique."""
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """One per tile, each one of `classes`; or none at all."""


class TileSource(msgspec.Struct, frozen=True, eq=False):
    """One tile of a decoded sheet."""

    sheet: Image
    box: tuple[int, int, int, int]
    """Left, top, right, bottom, pixels."""

    kind: ClassVar[Kind] = "image"

    def read(self) -> Image:
        return self.sheet.crop(self.box)


def open_sheet(manifest: SheetManifest, name: str, where: Path) -> SampleSet:
    """The samples of a sheet, decoded once and shared; `where` is the manifest's path.

    Raises SetError, naming the key, where the manifest contradicts itself or its image.
    """
    _check(manifest, where)
    check_relative(manifest.image, where, SetError)
    path = inside(where.parent, manifest.image, SetError)
    try:
        sheet = load_image(path)
    except PreprocessError as error:
        raise SetError(f"{where}: sheet.image: {error}") from error
    height, width = manifest.tile
    rows = -(-len(manifest.names) // manifest.columns)
    if sheet.size != (manifest.columns * width, rows * height):
        raise SetError(
            f"{where}: expected sheet.image of {manifest.columns * width}x{rows * height} pixels for "
            f"{len(manifest.names)} tiles of {width}x{height} in {manifest.columns} columns, found "
            f"{sheet.width}x{sheet.height}; correct tile, columns or names"
        )
    labels = manifest.labels or (None,) * len(manifest.names)
    samples = []
    for place, (sample, label) in enumerate(zip(manifest.names, labels, strict=True)):
        left, top = place % manifest.columns * width, place // manifest.columns * height
        samples.append(Sample(sample, TileSource(sheet, (left, top, left + width, top + height)), label))
    return SampleSet(name, tuple(samples), manifest.classes if manifest.labels else ())


def _check(manifest: SheetManifest, where: Path) -> None:
    if not manifest.names:
        raise SetError(f"{where}: sheet.names: expected a name for each tile, found none")
    if min(*manifest.tile, manifest.columns) < 1:
        raise SetError(
            f"{where}: expected sheet.tile and sheet.columns of at least 1, found {list(manifest.tile)} and "
            f"{manifest.columns}"
        )
    if len(set(manifest.names)) != len(manifest.names):
        twice = next(name for name in manifest.names if manifest.names.count(name) > 1)
        raise SetError(f"{where}: sheet.names: expected unique names, found {twice!r} more than once")
    if manifest.labels and len(manifest.labels) != len(manifest.names):
        raise SetError(
            f"{where}: sheet.labels: expected {len(manifest.names)}, one per name, or none, "
            f"found {len(manifest.labels)}"
        )
    unknown = sorted(set(manifest.labels) - set(manifest.classes))
    if unknown:
        raise SetError(
            f"{where}: sheet.labels: expected labels among sheet.classes {list(manifest.classes)}, found {unknown[0]!r}"
        )
