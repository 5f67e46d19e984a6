"""A size to fit into: the most faithful build that does, or by how much the smallest does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.bundle import Manifest, read_manifest
from edgevit.errors import InputError
from edgevit.pipeline.size_budget import choose, parse_size, size_of, with_every_precision
from edgevit.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MB", 8_000_000), ("7.5 MiB", 7_864_320), ("300kb", 300_000), ("12", 12), (" 1 GB ", 10**9), ("2B", 2)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "eight MB", "8 megabytes", "-8MB", "0", "8MB!", "1e6"])
def test_what_is_no_size_lists_the_units(text: str) -> None:
    with pytest.raises(
        InputError, match=r"expected --max-size as a number of bytes, kB, MB, GB, KiB, MiB or GiB, found"
    ):
        parse_size(text)


def test_a_target_without_a_precision_means_all_of_them() -> None:
    recipe = Recipe(model="m", targets=("ort-mobile", "onnxruntime:int8", "ort-mobile:int8"))
    assert with_every_precision(recipe).targets == ("ort-mobile:float32", "ort-mobile:int8", "onnxruntime:int8")


@pytest.fixture
def manifest(digits: Any) -> Manifest:
    return read_manifest(digits.bundle / "manifest.json")


def judged(manifest: Manifest, **verdicts: str) -> Manifest:
    """Only these builds (`onnxruntime_int8`), with these verdicts."""
    wanted = {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
    builds = [build for build in manifest.builds if build.name in wanted]
    changed = tuple(msgspec.structs.replace(build, verdict=wanted[build.name]) for build in builds)
    return msgspec.structs.replace(manifest, builds=changed)


def sizes(manifest: Manifest) -> dict[str, int]:
    return {build.name: size_of(build) for build in manifest.builds}


def test_the_closest_build_that_fits_is_chosen(manifest: Manifest) -> None:
    both = judged(manifest, onnxruntime_int8="passed", onnxruntime_float32="passed")
    large, small = sizes(both)["onnxruntime-float32"], sizes(both)["onnxruntime-int8"]
    assert choose(both, large).build == "onnxruntime-float32", "float32 is closer, and fits to the byte"
    choice = choose(both, large - 1)
    assert (choice.build, choice.size, choice.limit) == ("onnxruntime-int8", small, large - 1)
    assert choice.reason.startswith(f"onnxruntime-int8 has {small / 1e6:.2f} MB, ")


def test_what_fits_and_fails_parity_is_not_chosen(manifest: Manifest) -> None:
    both = judged(manifest, onnxruntime_int8="failed", onnxruntime_float32="passed")
    limit = sizes(both)["onnxruntime-float32"] - 500_000
    choice = choose(both, limit)
    assert choice.build == "" and choice.size == sizes(both)["onnxruntime-float32"]
    assert "the smallest that passes is onnxruntime-float32" in choice.reason and "0.50 MB too much" in choice.reason
    assert "onnxruntime-int8 would fit, but is failed" in choice.reason


def test_where_nothing_passes_it_says_so(manifest: Manifest) -> None:
    choice = choose(judged(manifest, onnxruntime_int8="inconclusive"), 10**9)
    assert (choice.build, choice.size) == ("", 0)
    assert choice.reason.endswith("no build passes; onnxruntime-int8 would fit, but is inconclusive")


def test_from_the_command_line(digits: Any, inside: Any, tmp_path: Path) -> None:
    options = ["--recipe", digits.recipe, "-t", "onnxruntime"]
    out, other = digits.resumed_at(tmp_path / "out"), digits.resumed_at(tmp_path / "other")
    done = inside("export", "zoo:digits-vit", out, *options, "--max-size", "2MB", "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    # All but float32 fit; weights alone in int8 are closest to float.
    assert document["choice"]["build"] == "onnxruntime-int8w"
    assert [build["precision"] for build in document["manifest"]["builds"]] == ["float32", "int8", "int8d", "int8w"]
    done = inside("export", "zoo:digits-vit", other, *options, "--max-size", "100kB")
    assert done.status == 1
    assert "the smallest that passes is onnxruntime-int8w" in done.complaint and "MB too much" in done.complaint
    assert inside("export", "zoo:digits-vit", tmp_path / "third", *options, "--max-size", "small").status == 2
