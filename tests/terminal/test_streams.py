"""Standard output belongs to the result: whoever else prints there meanwhile is sent to standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.terminal import kept_for_results

NOISY = """
import os, subprocess, sys
from edgevit.terminal import kept_for_results
with kept_for_results() as out:
    print("python")
    os.write(1, b"c++\\n")
    subprocess.run([sys.executable, "-c", "print('child')"], check=True)
    out.write("the result\\n")
print("afterwards")
"""


def test_only_the_result_goes_to_standard_output(repository: Path) -> None:
    result = subprocess.run([sys.executable, "-c", NOISY], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout == "the result\nafterwards\n"
    assert sorted(result.stderr.split()) == ["c++", "child", "python"]


def test_an_exception_gives_standard_output_back(repository: Path) -> None:
    code = """
from edgevit.terminal import kept_for_results
try:
    with kept_for_results():
        1 / 0
except ZeroDivisionError:
    print("afterwards")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("afterwards\n", "")


def test_streams_that_are_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    with kept_for_results() as out:
        print("noise")
        out.write("the result\n")
    assert capsys.readouterr() == ("the result\n", "noise\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(repository: Path, closed: str) -> None:
    code = (
        "from edgevit.terminal import kept_for_results\nwith kept_for_results() as out: print('noise'); out.write('x')"
    )
    command = f'exec "$0" -c "$1" {closed}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ("x" if closed == "2>&-" else "")
