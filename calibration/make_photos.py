"""Makes `calibration/photos` and `calibration/photos-evaluation`: small photographs without labels.

Run from the top of the repository: `python calibration/make_photos.py`. Each image is a random crop, mirrored or not
and scaled to 256x256, of one of the two photographs that scikit-learn ships (china.jpg and flower.jpg, CC BY 2.0; the
credits are in README.md). They have the statistics of photographs, which is what ranges and timings of the untrained
sizes need, and they say nothing about accuracy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

OUT = Path(__file__).resolve().parent
SIDE = 256
PARTS = {"photos": 32, "photos-evaluation": 16}
PNG_EVERY = 7  # one in seven is a PNG, so that both formats are read; JPEG keeps the folder small


def crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square of 140 to 420 pixels anywhere in the photo, mirrored half of the time, as 256x256."""
    side = int(rng.integers(140, 421))
    left = int(rng.integers(0, photo.width - side + 1))
    top = int(rng.integers(0, photo.height - side + 1))
    box = (left, top, left + side, top + side)
    square = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else square


def main() -> None:
    photos = {name: Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")}
    rng = np.random.default_rng(0)
    for part, count in PARTS.items():
        folder = OUT / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for index in range(count):
            name = list(photos)[index % len(photos)]
            image = crop(photos[name], rng)
            if index % PNG_EVERY == PNG_EVERY - 1:
                image.save(folder / f"{index:02d}-{name}.png", optimize=True)
            else:
                image.save(folder / f"{index:02d}-{name}.jpg", quality=88, optimize=True)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{part}: {count} images, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
