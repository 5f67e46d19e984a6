"""The zoo's names, and that looking at them needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgevit.errors import InputError
from edgevit.zoo import find_entry, sequence_names, zoo_names

UNTRAINED = [f"vit-{size}-{pixels}" for size in ("tiny", "small", "base", "large") for pixels in (224, 384)]
HUGE = "vit-huge-224"


def test_the_names_are_the_promised_ones() -> None:
    assert sorted(set(zoo_names()) - set(sequence_names())) == sorted(["digits-vit", *UNTRAINED, HUGE])
    assert set(sequence_names()) < set(zoo_names())


@pytest.mark.parametrize("name", [*UNTRAINED, HUGE])
def test_untrained_sizes_have_no_checkpoint_and_no_sets(name: str) -> None:
    entry = find_entry(name)
    pixels = int(name.rpartition("-")[2])
    assert entry.config.image_size == entry.preprocess.size == (pixels, pixels)
    assert entry.config.patch_size == (14 if name == HUGE else 16)
    assert (entry.config.channels, entry.config.classes) == (3, 1000)
    assert (entry.checkpoint, entry.calibration, entry.evaluation) == (None, None, None)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("tiny", (192, 12, 3)),
        ("small", (384, 12, 6)),
        ("base", (768, 12, 12)),
        ("large", (1024, 24, 16)),
        ("huge", (1280, 32, 16)),
    ],
)
def test_sizes_are_the_papers(size: str, expected: tuple[int, int, int]) -> None:
    config = find_entry(f"vit-{size}-224").config
    assert (config.dim, config.depth, config.heads) == expected


def test_digits_has_nine_patches_its_sets_and_its_labels() -> None:
    entry = find_entry("digits-vit")
    assert (entry.config.grid, entry.config.tokens, entry.config.channels) == ((3, 3), 10, 1)
    assert entry.labels == tuple("0123456789")
    assert entry.calibration == "zoo:digits-vit:calibration"
    assert entry.evaluation == "zoo:digits-vit:evaluation"
    assert (entry.preprocess.mode, entry.preprocess.size, entry.preprocess.resize) == ("L", (48, 48), "exact")


@pytest.mark.parametrize(
    "name", ["", "vit-giant-224", "vit-huge-384", "vit-base-256", "digits", "vit-base-224-x", "vit-base-²"]
)
def test_an_unknown_name_lists_the_choices(name: str) -> None:
    with pytest.raises(InputError, match="choose one of: digits-vit, vit-tiny-224") as caught:
        find_entry(name)
    assert f"'{name}'" in str(caught.value)


def test_the_zoo_and_the_sources_import_without_torch_and_numpy() -> None:
    code = (
        "import sys, edgevit.zoo, edgevit.sources; print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
