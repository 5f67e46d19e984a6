"""Makes the calibration and evaluation sheets of `zoo:digits-vit` in `edgevit/sets/digits`, and `calibration/samples`.

Run from the top of the repository: `python calibration/make_digits.py`. The same scikit-learn data and the same
Pillow resampling give the same pixels. The source is the test part of the "Optical Recognition of Handwritten
Digits" data (Alpaydin and Kaynak, UCI Machine Learning Repository), as scikit-learn's `load_digits` ships it: 1797
images of 8x8 pixels, values 0 to 16.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

OUT = Path(__file__).resolve().parent.parent / "edgevit" / "sets" / "digits"
SAMPLES = Path(__file__).resolve().parent / "samples"
SHOWN = ("0", "3", "5", "7", "8")
TILE = 48
COLUMNS = 30
EVALUATION_COUNT = 900


def tile_of(digit: np.ndarray) -> Image.Image:
    """One 8x8 float array with values 0 to 16 as a 48x48 8-bit image."""
    grey = np.round(digit * 255 / 16).astype(np.uint8)
    return Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BICUBIC)


def write_sheet(part: str, comment: str, indices: list[int], tiles: list[Image.Image], labels: list[str]) -> None:
    """Writes `<part>.png`, a grid read row by row, and `<part>.toml`, whose lines are the rows of the grid."""
    rows = -(-len(indices) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * TILE, rows * TILE))
    for place, index in enumerate(indices):
        sheet.paste(tiles[index], (place % COLUMNS * TILE, place // COLUMNS * TILE))
    sheet.save(OUT / f"{part}.png", optimize=True)
    names = [f"digit-{index:04d}" for index in indices]
    classes = sorted(set(labels))
    lines = [
        *(f"# {line}" for line in comment.splitlines()),
        f'name = "digits-vit-{part}"',
        "",
        "[sheet]",
        f'image = "{part}.png"',
        f"tile = [{TILE}, {TILE}]  # height and width, pixels",
        f"columns = {COLUMNS}",
        f"classes = {listed(classes)}",
        f"names = [\n{rows_of(names)}]",
        f"labels = [\n{rows_of([labels[index] for index in indices])}]",
    ]
    (OUT / f"{part}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_samples(indices: list[int], tiles: list[Image.Image], labels: list[str]) -> None:
    """The first digit of each label in `SHOWN` as a file of its own; the name begins with the label."""
    shutil.rmtree(SAMPLES, ignore_errors=True)
    SAMPLES.mkdir()
    for label in SHOWN:
        index = next(index for index in indices if labels[index] == label)
        tiles[index].save(SAMPLES / f"{label}-digit-{index:04d}.png", optimize=True)


def listed(words: list[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def rows_of(words: list[str]) -> str:
    starts = range(0, len(words), COLUMNS)
    return "".join("  " + listed(words[start : start + COLUMNS])[1:-1] + ",\n" for start in starts)


def main() -> None:
    digits = load_digits()
    order = [int(index) for index in np.random.default_rng(0).permutation(len(digits.images))]
    evaluation, training = order[:EVALUATION_COUNT], order[EVALUATION_COUNT:]
    tiles = [tile_of(image) for image in digits.images]
    digests = [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles]
    held_out = {digests[index] for index in evaluation}
    calibration = [index for index in training if digests[index] not in held_out]
    dropped = [f"digit-{index:04d}" for index in training if digests[index] in held_out]
    labels = [str(label) for label in digits.target]

    made = "Written by calibration/make_digits.py from scikit-learn's digits; a name holds the index there."
    split = "numpy.random.default_rng(0).permutation(1797): the first 900 are evaluation, the others calibration."
    duplicates = f"Left out, because the same image is in the evaluation part: {', '.join(dropped) or 'none'}."
    OUT.mkdir(parents=True, exist_ok=True)
    write_sheet("evaluation", f"{made}\n{split}", evaluation, tiles, labels)
    write_sheet("calibration", f"{made}\n{split}\n{duplicates}", calibration, tiles, labels)
    write_samples(evaluation, tiles, labels)
    print(f"{len(evaluation)} evaluation, {len(calibration)} calibration, {len(dropped)} duplicates left out")


if __name__ == "__main__":
    main()
