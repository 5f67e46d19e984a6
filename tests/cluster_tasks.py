"""Tasks for the tests of `edgevit.cluster`: processes elsewhere import them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edgevit.errors import SetError


def squared(task: int, threads: int | None) -> tuple[int, int, int | None]:
    time.sleep(0.05)
    return task * task, os.getpid(), threads


def ends_its_process_once(task: tuple[int, str], threads: int | None) -> int:
    """The third task ends the process that runs it, the first time."""
    number, flag = task
    if number == 3 and not Path(flag).exists():
        Path(flag).touch()
        os._exit(9)
    return number


def always_ends_its_process(task: int, threads: int | None) -> int:
    if task == 3:
        os._exit(9)
    return task


def waits(task: tuple[int, str], threads: int | None) -> int:
    """Says who runs it, and takes a while."""
    number, folder = task
    Path(folder, f"{number}-{os.getpid()}").touch()
    time.sleep(0.4)
    return number


def refused(task: int, threads: int | None) -> int:
    raise SetError(f"expected nothing, found {task}")
