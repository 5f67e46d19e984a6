"""Runs one step in a process of its own and says what it cost: seconds, and the peak memory of it and its children."""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.measure.memory import peak_memory
from edgevit.types import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

# As edgevit.measure does it: the child imports what this process would import, whatever its directory.
_START = "import sys; sys.path[:] = sys.argv[3:]; import processes; processes.serve(sys.argv[1], sys.argv[2])"
_SAMPLING_SECONDS = 0.25
"""Looking through all processes takes some milliseconds of a core that is being measured."""


class StepError(Exception):
    """A step ended with an error; the message is the end of what it printed."""


class Cost(Value, frozen=True, kw_only=True):
    seconds: float
    """From before the process is started until it has ended, imports included."""
    peak_process_bytes: int
    """The largest resident set of any one process of the step, as `/usr/bin/time` reports it (`ru_maxrss`)."""
    peak_tree_bytes: int
    """The largest sum over all its processes at one moment, sampled 4 times a second; shared pages count twice."""


class Spent(Value, frozen=True, kw_only=True):
    """What a program of somebody else's can be told to have cost; see `Cost`."""

    seconds: float
    peak_tree_bytes: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    cost: Cost
    result: Any
    """What the function returned, through JSON."""


def peak_of(cost: Cost, stages: Sequence[dict[str, Any]]) -> int:
    """The largest resident set of any process of an export, bytes.

    An export begins its peak anew with every stage, so that the process's own (`cost`) is only that of its last one.
    """
    return max([cost.peak_process_bytes, *(stage["peak_bytes"] for stage in stages)])


def run_step(function: str, arguments: dict[str, Any]) -> Step:
    """Calls `function` ("module:name", found beside this file) with JSON `arguments` in a new process.

    Raises StepError when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="edgevit-step-") as folder:
        place = Path(folder)
        (place / "arguments.json").write_text(json.dumps(arguments))
        spent = run_command([sys.executable, "-c", _START, function, folder, *sys.path], function)
        if not (place / "result.json").exists():
            raise StepError(f"expected a result of {function}, found that it left before it had one")
        peak = int((place / "peak").read_text())
        cost = Cost(seconds=spent.seconds, peak_process_bytes=peak, peak_tree_bytes=max(peak, spent.peak_tree_bytes))
        return Step(cost=cost, result=json.loads((place / "result.json").read_text()))


def run_command(command: Sequence[str], name: str) -> Spent:
    """Runs another program to its end. Raises StepError, with the end of what it printed, when it fails."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        tree = _TreeMemory(process.pid)
        process.wait()
        seconds = time.perf_counter() - began
        peak_tree = tree.stop()
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()[-15:]
            raise StepError(f"{name} ended with status {process.returncode}: " + "\n".join(said))
    return Spent(seconds=seconds, peak_tree_bytes=peak_tree)


def serve(function: str, folder: str) -> None:
    """The child's side of `run_step`."""
    module, _, name = function.partition(":")
    arguments = json.loads((Path(folder) / "arguments.json").read_text())
    result = getattr(importlib.import_module(module), name)(**arguments)
    # Read here, not from the parent: the peak that the parent is told survives exec, so it can be the parent's own.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (Path(folder) / "peak").write_text(str(max(peak_memory(), children)))
    (Path(folder) / "result.json").write_bytes(msgspec.json.encode(result))


class _TreeMemory:
    """Samples the resident memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        import psutil

        while not self._done.wait(_SAMPLING_SECONDS):
            try:
                root = psutil.Process(self._pid)
                total = 0
                for process in (root, *root.children(recursive=True)):
                    try:
                        total += process.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue  # ended between being listed and being read
            except psutil.NoSuchProcess:
                return
            self._peak = max(self._peak, total)
