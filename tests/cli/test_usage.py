"""What the command says about itself, and what it says when it is called wrongly: one line and status 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import InputError

COMMANDS = ("export", "bench", "parity", "run", "verify", "inspect", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_teaches_with_an_example(inside: Callable[..., Any], command: str) -> None:
    result = inside(command, "--help")
    assert result.status == 0
    assert re.search(rf"Examples?: edgevit {command}", result.out)
    assert "--json" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_the_first_help_names_every_command_and_the_exit_status(inside: Callable[..., Any]) -> None:
    result = inside("--help")
    assert result.status == 0
    for word in (*COMMANDS, "Exit status", "edgevit export zoo:digits-vit"):
        assert word in result.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "no such command 'nonsense'; see edgevit --help"),
        (["export"], "missing argument 'MODEL'; see edgevit export --help"),
        (["export", "a", "b", "--nope"], "no such option: --nope"),
        (["export", "a", "b", "--samples", "many"], "invalid value for '--samples'"),
        (["run", "somewhere"], "missing argument 'INPUT...'"),
        (["run", "somewhere", "a.png", "--top", "0"], "invalid value for '--top'"),
        (["bench", "somewhere", "--seconds", "soon"], "invalid value for '--seconds'"),
    ],
)
def test_a_wrong_call_is_one_line(inside: Callable[..., Any], arguments: list[str], expected: str) -> None:
    result = inside(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("edgevit") and expected in result.err


def test_without_arguments_the_help_is_shown(inside: Callable[..., Any]) -> None:
    result = inside()
    assert (result.status, result.err) == (2, "")
    assert "export" in result.out


def test_python_m_edgevit_is_the_command(repository: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "edgevit", "--version"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", result.stdout)
    assert result.stderr == ""


def test_a_defect_is_one_line_and_debug_shows_where(
    inside: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("this is\na defect")

    monkeypatch.setattr("edgevit.pipeline.doctor", broken)
    result = inside("doctor")
    assert result.status == 1
    assert result.err == (
        "edgevit: a defect of edgevit or of an engine: ZeroDivisionError: this is a defect; --debug shows where\n"
    )
    from edgevit.cli import main

    with pytest.raises(ZeroDivisionError):
        main(["doctor", "--debug"])


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_reader_who_leaves_early_is_no_error(start: Callable[..., Any], digits: Any, extra: list[str]) -> None:
    process = start("inspect", digits.bundle / "plan.toml", *extra)
    process.stdout.read(1)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    # The whole output may already have been in the pipe when it was closed.
    assert process.wait() in (0, 141)
    assert error == ""


def test_nobody_to_print_to(start: Callable[..., Any], digits: Any) -> None:
    for stream in ("stdout", "stderr"):
        number = {"stdout": 1, "stderr": 2}[stream]
        process = start("inspect", digits.bundle, prelude=f"import os; os.close({number})")
        process.communicate(timeout=60)
        assert process.returncode in (0, 141)


def test_threads_are_given_one_by_one_or_with_commas(
    inside: Callable[..., Any], digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def refuse(bundle: Path, options: Any, progress: Any) -> None:
        asked.append(options.threads)
        raise InputError("enough was seen")

    monkeypatch.setattr("edgevit.pipeline.bench", refuse)
    for arguments in (["1,2,4"], ["1, 2", "4"], ["1", "2", "4", "2"]):
        given = [part for one in arguments for part in ("--threads", one)]
        assert inside("bench", digits.bundle, *given).status == 2
    assert asked == [(1, 2, 4)] * 3
    for wrong in ("1,", "two", "-1", "1;2"):
        result = inside("bench", digits.bundle, f"--threads={wrong}")
        assert (result.status, len(asked)) == (2, 3)
        assert "expected --threads as N or N,N,…" in result.complaint


def test_a_thread_sweep_measures_every_build_with_each(inside: Callable[..., Any], digits: Any) -> None:
    quick = ["--seconds", 0.12, "--rounds", 6, "--cold-starts", 0, "--target", "onnxruntime", "--json"]
    result = inside("bench", digits.bundle, "--threads", "1,2", *quick)
    assert result.status == 0, result.err
    entries = json.loads(result.out)["entries"]
    assert sorted((entry["precision"], entry["threads"]) for entry in entries) == [
        ("float32", 1), ("float32", 2), ("int8", 1), ("int8", 2),
    ]  # fmt: skip
    assert all(entry["drift"] is not None and entry["drift_noise"] > 0 for entry in entries)
