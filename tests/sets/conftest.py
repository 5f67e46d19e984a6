"""Small images on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., Path]


@pytest.fixture
def make_images() -> MakeImages:
    """Writes one image per name, each with pixels of its own; names may contain folders."""

    def make(folder: Path, names: Iterable[str], *, seed: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
        return folder

    return make
