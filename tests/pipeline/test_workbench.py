"""Stages are finished or absent, used again only for the very same inputs, and one process works at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.errors import OutputError
from edgevit.pipeline.exporting import _draft
from edgevit.pipeline.workbench import Workbench, digest_of
from edgevit.progress import Silent
from edgevit.recipe import Recipe, read_recipe


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def write(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "file").write_text(text)


def never(folder: Path) -> None:
    raise AssertionError("made again")


def test_a_finished_stage_is_used_again_and_says_so(tmp_path: Path) -> None:
    notes = Notes()
    with Workbench(tmp_path / "out", notes) as bench:
        first = bench.stage("lower", {"model": "a", "batch": 1}, write("first"))
    with Workbench(tmp_path / "out", notes) as bench:
        assert bench.stage("lower", {"batch": 1, "model": "a"}, never) == first
        assert (first / "file").read_text() == "first"
        other = bench.stage("lower", {"model": "a", "batch": 2}, write("other"))
        assert other != first
        assert bench.stage("plan", {"model": "a", "batch": 1}, write("plan")) != first
        assert [cost.stage for cost in bench.costs] == ["lower (resumed)", "lower", "plan"]
        assert notes.texts == ["lower: finished by an earlier run, used again"]
        bench.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_fails_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt

    with Workbench(tmp_path / "out", Silent()) as bench:
        with pytest.raises(KeyboardInterrupt):
            bench.stage("lower", {}, half)
        assert [path.name for path in bench.root.iterdir()] == ["lock"]
        assert (bench.stage("lower", {}, write("whole")) / "file").read_text() == "whole"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Workbench(tmp_path / "out", Silent()) as bench:
        bench.stage("lower", {}, write("mine"))
        with (
            Workbench(tmp_path / "out", Silent()) as second,
            pytest.raises(OutputError, match=r"expected no other export to '.*/out', found one that is running"),
        ):
            second.stage("lower", {}, never)
    with Workbench(tmp_path / "out", Silent()) as third:
        third.stage("lower", {}, never)


def test_a_killed_process_holds_nothing(tmp_path: Path, repository: Path) -> None:
    code = f"""
import os
from pathlib import Path
from edgevit.pipeline.workbench import Workbench
from edgevit.progress import Silent
bench = Workbench(Path({str(tmp_path / "out")!r}), Silent())
bench.stage("lower", {{}}, lambda folder: (folder / "file").write_text("first"))
bench.stage("plan", {{}}, lambda folder: ((folder / "file").write_text("half"), os.kill(os.getpid(), 9)))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == -9
    with Workbench(tmp_path / "out", Silent()) as bench:
        bench.stage("lower", {}, never)
        assert (bench.stage("plan", {}, write("whole")) / "file").read_text() == "whole"
        names = sorted(path.name.partition("-")[0] for path in bench.root.iterdir())
        assert names == ["lock", "lower", "plan"], "what the killed process was writing is swept"


def test_the_digest_is_of_the_content_not_of_its_order() -> None:
    assert digest_of({"a": 1, "b": [2, {"c": 3}]}) == digest_of({"b": [2, {"c": 3}], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, set()),
        ({"calibration": {"seed": 1}}, {"calibrate", "plan", "quantize", "build-onnxruntime-int8"}),
        ({"plan": {"ranges": "min-max"}}, {"plan", "quantize", "build-onnxruntime-int8"}),
        ({"options": {"onnxruntime:int8": {"optimize": "no"}}}, {"build-onnxruntime-int8"}),
        ({"evaluation": {"samples": 550}}, {"reference"}),
        (
            {"preprocess": {"size": [48, 48], "mode": "L", "resize": "exact", "mean": [0.4], "std": [0.6]}},
            {"reference", "calibrate", "plan", "quantize", "build-onnxruntime-int8"},
        ),
    ],
    ids=["nothing", "seed", "ranges", "option", "evaluation", "preprocess"],
)
def test_what_a_change_of_the_recipe_makes_again(
    digits: Any, tmp_path: Path, changes: dict[str, dict[str, object]], again: set[str]
) -> None:
    values = msgspec.to_builtins(read_recipe(digits.recipe))
    for key, change in changes.items():
        values[key] = {**(values[key] or {}), **change}
    recipe = msgspec.structs.replace(msgspec.convert(values, Recipe), targets=("onnxruntime:int8",))
    notes = Notes()
    out = digits.resumed_at(tmp_path / "out", "nothing")
    with Workbench(out, notes) as bench:
        _draft(recipe, ("onnxruntime:int8",), bench, notes)
        made = {cost.stage for cost in bench.costs if "resumed" not in cost.stage}
    assert made - {"load", "parity of the stages"} == again
