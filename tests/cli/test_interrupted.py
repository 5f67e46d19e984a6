"""Ctrl-C and kill -9 at every stage: nothing at OUT, nothing that loads beside it; the next run goes on from there."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import edgevit as package
from edgevit.errors import EdgevitError

Command = Callable[..., Any]

TASKS = {
    "loading zoo:digits-vit": ("lower", "reference", "calibrate", "plan", "quantize", "build"),
    "tracing": ("lower",),
    "float reference": ("reference", "calibrate", "plan", "quantize", "build"),
    "calibrating on 48 samples": ("calibrate", "plan", "quantize", "build"),
    "planning scales": ("plan", "quantize", "build"),
    "writing Q/DQ": ("quantize", "build"),
    "building openvino:int8": ("build",),
    "building onnxruntime:int8": ("build-onnxruntime",),
    "parity of simulated int8": (),
    "parity of openvino-int8": (),
    "parity of the layers": (),
    "writing the report": (),
}
"""Each task of an export, and the stages that are not finished when it begins (or that it is worth making again)."""
KILLED = {
    "calibrating on 48 samples": "calibrate",
    "building onnxruntime:int8": "build-onnxruntime-int8",
    "parity of openvino-int8": "",
    "writing the report": "",
}
"""Task to the stage that it leaves unfinished."""


def nothing_loads(folder: Path) -> None:
    """No directory below `folder`, hidden ones included, is a bundle."""
    directories = [Path(place) for place, _, _ in os.walk(folder)]
    assert len(directories) > 1, "what was finished is kept"
    for directory in directories:
        with pytest.raises(EdgevitError):
            package.load(directory)


def stages_of(bundle: Path) -> set[str]:
    return {stage["stage"] for stage in json.loads((bundle / "report.json").read_bytes())["stages"]}


@pytest.mark.parametrize("task", TASKS)
def test_control_c(inside: Command, digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    from edgevit.terminal.progress import Lines

    noted = Lines.note

    def note(self: Lines, text: str) -> None:
        if text.startswith(f"{task}: "):
            # At the end of the task: its files are written, their directory has not got its name yet.
            signal.raise_signal(signal.SIGINT)
        noted(self, text)

    monkeypatch.setattr(Lines, "note", note)
    out = digits.resumed_at(tmp_path / "out", *TASKS[task] or ["nothing"])
    result = inside("export", "zoo:digits-vit", out, "--recipe", digits.recipe)
    assert result.status == 130
    assert result.out == ""
    assert result.complaint == ("edgevit: interrupted; finished stages are kept, run the same command again to resume")
    assert [path.name for path in tmp_path.iterdir()] == [".out.edgevit-stages"]
    nothing_loads(tmp_path)


@pytest.mark.parametrize("task", KILLED)
def test_kill_and_resume(edgevit: Command, inside: Command, digits: Any, tmp_path: Path, task: str) -> None:
    out = digits.resumed_at(tmp_path / "out", *TASKS[task] or ["nothing"])
    arguments = ["export", "zoo:digits-vit", out, "--recipe", digits.recipe]
    killed = edgevit(*arguments, stop=("SIGKILL", "leave", task))
    assert killed.status == -signal.SIGKILL
    assert not out.exists()
    nothing_loads(tmp_path)
    # What was finished before is used again, what was being made is made again.
    result = inside(*arguments)
    assert result.status == 0, result.err
    stages = stages_of(out)
    assert {"lower (resumed)", "reference (resumed)"} <= stages
    if KILLED[task]:
        assert KILLED[task] in stages and f"{KILLED[task]} (resumed)" not in stages
    else:
        assert {"plan (resumed)", "quantize (resumed)", "build-onnxruntime-int8 (resumed)"} <= stages
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert inside("verify", out).status == 0


def test_control_c_at_the_keyboard_reaches_the_measuring_processes_too(
    start: Command, digits: Any, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(digits.recipe.read_text().replace("bench.enabled = false", "bench.seconds = 100"))
    out = digits.resumed_at(tmp_path / "out", "nothing")
    process = start("export", "zoo:digits-vit", out, "--recipe", recipe, start_new_session=True)
    for line in process.stderr:
        if line.startswith("parity of the layers"):
            break
    while not psutil.Process(process.pid).children():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out_text, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out_text, error) == (
        "",
        "edgevit: interrupted; finished stages are kept, run the same command again to resume\n",
    )
    assert not out.exists()
    nothing_loads(tmp_path)


def test_two_exports_to_one_output_do_not_meet(start: Command, inside: Command, digits: Any, tmp_path: Path) -> None:
    out = digits.resumed_at(tmp_path / "out", "nothing")
    arguments = ["export", "zoo:digits-vit", out, "--recipe", digits.recipe]
    first = start(*arguments, stop=("SIGSTOP", "enter", "parity of simulated int8"))
    os.waitid(os.P_PID, first.pid, os.WSTOPPED)
    second = inside(*arguments)
    assert second.status == 2
    assert "expected no other export to" in second.complaint and "found one that is running" in second.complaint
    assert not out.exists()
    os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=300)
