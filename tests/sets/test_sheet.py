"""Sheets: tiles at their places, and manifests that contradict their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.errors import SetError
from edgevit.sets import open_set

MANIFEST = """
[sheet]
image = "letters.png"
tile = [3, 4]
columns = 2
classes = ["a", "b", "c"]
names = ["first", "second", "third"]
labels = ["b", "a", "b"]
"""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    grid = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(grid).save(tmp_path / "letters.png")
    path = tmp_path / "letters.toml"
    path.write_text(MANIFEST)
    return path


def test_tiles_are_read_row_by_row(sheet: Path) -> None:
    samples = open_set(sheet)
    assert samples.name == "letters"
    assert samples.labels == ("a", "b", "c")
    assert [(sample.name, sample.label) for sample in samples.samples] == [
        ("first", "b"),
        ("second", "a"),
        ("third", "b"),
    ]
    grid = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    for sample, tile in zip(samples.samples, (grid[:3, :4], grid[:3, 4:], grid[3:, :4]), strict=True):
        np.testing.assert_array_equal(np.asarray(sample.image()), tile)


def test_a_tile_has_the_digest_of_the_same_image_in_a_file(sheet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    second = open_set(sheet).samples[1]
    second.image().convert("RGB").save(folder / "any-name.bmp")
    assert open_set(folder).samples[0].digest == second.digest


def test_a_sheet_may_have_no_labels(sheet: Path) -> None:
    text = MANIFEST.replace('labels = ["b", "a", "b"]\n', "").replace('classes = ["a", "b", "c"]\n', "")
    sheet.write_text(text)
    assert not open_set(sheet).labelled


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tile = [3, 4]", "tile = [3, 3]", "expected sheet.image of 6x6 pixels for 3 tiles of 3x3 .*found 8x6"),
        ("columns = 2", "columns = 3", "found 8x6; correct tile, columns or names"),
        ("columns = 2", "columns = 0", "of at least 1"),
        ("tile = [3, 4]", "tile = [3]", r"letters\.toml: .*sheet\.tile"),
        ('"third"]', '"first"]', "sheet.names: expected unique names, found 'first' more than once"),
        ('"third"]', '"third", "fourth"]', "sheet.labels: expected 4, one per name, or none, found 3"),
        ('["b", "a", "b"]', '["b", "z", "b"]', "sheet.labels: expected labels among sheet.classes .*found 'z'"),
        ('["first", "second", "third"]', "[]", "sheet.names: expected a name for each tile"),
        ('"letters.png"', '"../letters.png"', r"letters\.toml' names the path '\.\./letters\.png'"),
        ('"letters.png"', '"gone.png"', r"letters\.toml: sheet\.image: .*gone\.png: expected an image file"),
        ('"letters.png"', '"letters.toml"', r"sheet\.image: .*letters\.toml: expected an image"),
        ("columns = 2", "columns = 2\ncolour = 1", "unknown field `colour`"),
    ],
)
def test_a_wrong_sheet_names_its_key(old: str, new: str, message: str, sheet: Path) -> None:
    assert old in MANIFEST
    sheet.write_text(MANIFEST.replace(old, new))
    with pytest.raises(SetError, match=message) as error:
        open_set(sheet)
    assert "\n" not in str(error.value)
