"""`zoo:digits-vit` with its preprocessing inside, judged on photographs of many sizes: several tests start from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BUILDS = ("openvino:int8", "onnxruntime:int8", "openvino:float16")


@dataclass(frozen=True)
class Raw:
    bundle: Path
    photos: Path
    """Class folders; no two images of one size."""
    builds: tuple[str, ...] = BUILDS


@pytest.fixture(scope="session")
def raw(once: Any, digits: Any, edgevit: Any, repository: Path) -> Raw:
    def make(place: Path) -> None:
        samples = sorted((repository / "calibration" / "samples").glob("*.png"))
        for number, path in enumerate(samples * 3):
            folder = place / "photos" / path.name[0]
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                larger = image.convert("RGB").resize((40 + 7 * number, 61 + 5 * number), Image.Resampling.BICUBIC)
            larger.save(folder / f"{number}.png")
        out = digits.resumed_at(place / "out")
        targets = [argument for text in BUILDS for argument in ("--target", text)]
        arguments = ["zoo:digits-vit", out, "--recipe", digits.recipe, *targets, "--input", "pixels"]
        finished = edgevit("export", *arguments, "--evaluation", place / "photos")
        assert finished.status == 0, finished.err

    place = once("pixels", make)
    return Raw(place / "out", place / "photos")
