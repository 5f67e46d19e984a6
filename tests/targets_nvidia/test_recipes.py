"""The recipes for NVIDIA: readable, and with options that their targets take."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.recipe import check_recipe, read_recipe
from edgevit.targets import parse_target, tensorrt, tensorrt_rtx
from edgevit.targets.nvidia.architectures import parse_architectures
from edgevit.targets.nvidia.prepare import choose_floats
from edgevit.targets.nvidia.profiles import parse_profile
from edgevit.types import Signature, TensorSpec

IMAGES = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 1, 48, 48)),), outputs=())
KNOWN = {"tensorrt": tensorrt.OPTIONS, "tensorrt-rtx": tensorrt_rtx.OPTIONS}


@pytest.mark.parametrize("name", ["nvidia-rtx.toml", "nvidia-jetson.toml"])
def test_options_are_those_of_the_target(repository: Path, name: str) -> None:
    recipe = read_recipe(repository / "export" / name)
    check_recipe(recipe)
    texts = [text for text in (*recipe.targets, *recipe.when_available) if text.startswith("tensorrt")]
    assert set(texts) == set(recipe.options)
    for text, options in recipe.options.items():
        target, precision = parse_target(text)
        assert set(options) <= set(KNOWN[target])
        parse_profile(options["profile"], IMAGES)
        choose_floats(precision, options.get("float_layers"))
        if target == "tensorrt-rtx":
            assert "sm86" in parse_architectures(options["gpu"])
