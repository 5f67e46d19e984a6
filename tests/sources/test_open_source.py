"""MODEL of the command line to its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.errors import InputError
from edgevit.sources import open_source


def test_the_zoo_is_reached_by_its_prefix() -> None:
    assert open_source("zoo:digits-vit").name == "digits-vit"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("zoo:", "a model of the zoo, found ''"),
        ("timm:nope", "an architecture of timm, found 'nope'"),
        ("timm:vit_tiny_patch16_224", "add --weights FILE"),
        ("pathlib:Path", "expected preprocessing for pathlib:Path"),
    ],
)
def test_each_prefix_reaches_its_source(model: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(model)


@pytest.mark.parametrize(
    "model", ["", "digits-vit", "hub:thing/x", "a b:c", "pkg.mod:", ":f", "pkg.mod:f()", "pkg..mod:f"]
)
def test_anything_else_lists_the_accepted_forms(model: str) -> None:
    with pytest.raises(
        InputError,
        match="zoo:NAME, a directory in Hugging Face layout, timm:ARCH with --weights FILE, a .pt2 or .onnx file, or",
    ):
        open_source(model)


def test_a_file_is_pointed_at_weights(tmp_path: Path) -> None:
    (tmp_path / "vit.pth").touch()
    with pytest.raises(InputError, match="a checkpoint file goes to --weights"):
        open_source(str(tmp_path / "vit.pth"))
