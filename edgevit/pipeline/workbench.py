"""Finished stages beside the output, so that an interrupted export resumes where its inputs are unchanged.

A stage is a directory that is complete or absent, named by a digest over everything it was made from. Nothing in it
loads as a bundle. The workbench goes away when the export succeeds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit import __version__
from edgevit.files import staged_directory
from edgevit.measure.memory import peak_memory
from edgevit.report import StageCost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Workbench:
    """The stages of one output, and what each cost."""

    def __init__(self, output: Path) -> None:
        self.root = output.parent / f".{output.name}.edgevit-stages"
        self.costs: list[StageCost] = []

    def stage(self, name: str, inputs: Mapping[str, object], produce: Callable[[Path], None]) -> Path:
        """The directory of the stage `name` made from `inputs` (JSON values); `produce` fills it if it is not there."""
        place = self.root / f"{name}-{digest_of({'edgevit': __version__, 'stage': name, **inputs})[:20]}"
        if place.is_dir():
            self.costs.append(StageCost(stage=f"{name} (resumed)", seconds=0.0, peak_bytes=0))
            return place
        self.root.mkdir(parents=True, exist_ok=True)
        with self.timed(name), staged_directory(place) as filling:
            produce(filling)
        return place

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Records the seconds and the peak memory of what happens inside."""
        reset_peak_memory()
        begun = time.perf_counter()
        yield
        self.costs.append(
            StageCost(stage=name, seconds=time.perf_counter() - begun, peak_bytes=peak_memory())
        )

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def digest_of(value: object) -> str:
    """SHA-256 over a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def reset_peak_memory() -> None:
    """Makes the next `peak_memory()` speak of what happens from here on; elsewhere than on Linux it cannot."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        try:
            reset.write_text("5")
        except PermissionError:
            # Some containers forbid it; the peak then is that of the whole process so far, an upper bound.
            return
