"""Imported by Python itself at its start: takes packages away, and stops the program at a task of its progress."""

import importlib.metadata
import os
import signal
import sys
from contextlib import contextmanager

WITHOUT = set(os.environ.get("EDGEVIT_TEST_WITHOUT", "").split())
STOP = os.environ.get("EDGEVIT_TEST_STOP", "")


class NotInstalled:
    """Finds nothing, loudly, so that no other finder is asked."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in WITHOUT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if WITHOUT:
    sys.meta_path.insert(0, NotInstalled())
    found = importlib.metadata.Distribution.from_name

    def from_name(name):
        if name.replace("-", "_") in WITHOUT:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    importlib.metadata.Distribution.from_name = from_name

    import edgevit.targets.installed

    # The folder beside the package says that it is there; only the metadata can be made to say that it is not.
    edgevit.targets.installed._from_folder = lambda package: None

if STOP:
    import edgevit.terminal.progress

    number, moment, wanted = STOP.split("\n")
    task = edgevit.terminal.progress.Lines.task

    def end():
        os.kill(os.getpid(), signal.Signals[number])

    @contextmanager
    def stopping_task(self, name, total):
        with task(self, name, total) as advance:
            if name == wanted and moment == "enter":
                end()
            yield advance
            if name == wanted and moment == "leave":
                end()

    edgevit.terminal.progress.Lines.task = stopping_task
