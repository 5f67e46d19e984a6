"""Finished stages beside the output, so that an interrupted export resumes where its inputs are unchanged.

A stage is a directory that is complete or absent, named by a digest over everything it was made from. Nothing in it
loads as a bundle. The workbench goes away when the export succeeds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgevit import __version__
from edgevit.errors import OutputError
from edgevit.files import staged_directory
from edgevit.measure.memory import peak_memory, release_memory
from edgevit.report import StageCost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from edgevit.progress import Progress


class Workbench:
    """The stages of one output, and what each cost. One process at a time works at one; leaving lets go of it."""

    def __init__(self, output: Path, progress: Progress) -> None:
        self.root = output.parent / f".{output.name}.edgevit-stages"
        self.costs: list[StageCost] = []
        self._progress = progress
        self._lock: int | None = None

    def stage(self, name: str, inputs: dict[str, object], produce: Callable[[Path], None]) -> Path:
        """The directory of the stage `name` made from `inputs` (JSON values); `produce` fills it if it is not there.

        Raises OutputError while another process works at the same output.
        """
        if self._lock is None:
            self._lock = _claimed(self.root)
        place = self.root / f"{name}-{digest_of({'edgevit': __version__, 'stage': name, **inputs})[:20]}"
        if place.is_dir():
            self._progress.note(f"{name}: finished by an earlier run, used again")
            self.costs.append(StageCost(stage=f"{name} (resumed)", seconds=0.0, peak_bytes=0))
            return place
        with self.timed(name), staged_directory(place) as filling:
            produce(filling)
        return place

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Records the seconds and the peak memory of what happens inside; before it the process gives back its own."""
        release_memory()
        reset_peak_memory()
        begun = time.perf_counter()
        yield
        self.costs.append(StageCost(stage=name, seconds=time.perf_counter() - begun, peak_bytes=peak_memory()))

    def clear(self) -> None:
        """Removes the stages: their output is complete."""
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _claimed(root: Path) -> int:
    """A descriptor that keeps others from the workbench until it is closed, by this process or by its death."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OutputError(
            f"expected no other export to {str(root.parent / root.name[1:].removesuffix('.edgevit-stages'))!r}, found "
            "one that is running; wait for it, or choose another output"
        ) from error
    except OSError:
        # Some network file systems have no locks; there the person has to know what runs.
        return lock
    return lock


def digest_of(value: object) -> str:
    """SHA-256 over a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def reset_peak_memory() -> None:
    """Makes the next `peak_memory()` speak of what happens from here on; elsewhere than on Linux it cannot."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        try:
            reset.write_text("5")
        except OSError:
            # Some containers forbid it; the peak then is that of the whole process so far, an upper bound.
            return
