"""From just before a process is started to its first result, with the compile cache empty and warm."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from edgevit.measure import protocol
from edgevit.measure.process import WorkerProcess
from edgevit.types import ColdStart


class ColdStartOptions(msgspec.Struct, frozen=True, kw_only=True):
    repeats: int = 3
    batch_size: int = 1
    dimensions: dict[str, int] = {}
    timeout: float = 600.0
    """Seconds for one start."""


def measure_cold_start(opening: protocol.Opening, options: ColdStartOptions) -> ColdStart:
    """Milliseconds from before the process is spawned until its first result, medians over `repeats` and raw samples.

    What is timed: starting Python, importing edgevit, NumPy and the engine, opening the build, one call on zeros. Each
    repeat has an empty cache directory of its own, then starts again with what the first start left in it; an engine
    that leaves nothing has no cache, and `cached_ms` is None. One start before all is not counted: it brings the
    engine's files into the system's file cache, so that every counted start finds them there. Raises MeasureError.
    """
    first: list[float] = []
    cached: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(options.repeats + 1):
            cache = Path(scratch) / str(repeat)
            cache.mkdir()
            started = _start(opening, cache, options)
            if repeat > 0:
                first.append(started)
                if any(cache.iterdir()):
                    cached.append(_start(opening, cache, options))
    return ColdStart(
        first_ms=statistics.median(first),
        cached_ms=statistics.median(cached) if cached else None,
        samples_ms=tuple(first),
        cached_samples_ms=tuple(cached),
    )


def _start(opening: protocol.Opening, cache: Path, options: ColdStartOptions) -> float:
    command = protocol.FirstResult(
        opening=msgspec.structs.replace(opening, cache_dir=str(cache)),
        batch_size=options.batch_size,
        dimensions=options.dimensions,
    )
    began = time.monotonic_ns()
    with WorkerProcess(options.timeout) as worker:
        return (worker.ask(command, protocol.ResultAt).monotonic_ns - began) / 1e6
