"""A `.tflite` file opened in LiteRT's interpreter."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BundleError, InputError, missing_package
from edgevit.targets.base import ClosedSession
from edgevit.targets.delegation import read_delegation
from edgevit.targets.execution import int8_execution
from edgevit.targets.flatbuffer import read_identified
from edgevit.targets.tflite.counting import count_delegation
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevit.targets.base import OpenOptions
    from edgevit.types import Arrays, Build

MODEL = "model.tflite"
IDENTIFIER = "TFL3"
REMARK = "INFO: "
STANDARD_ERROR = 2
NO_OUTPUT_SCALE = "the plan has no output scale for it"


def import_interpreter() -> Any:
    """LiteRT's Interpreter class. Raises UnavailableError where its package is missing."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise missing_package("ai-edge-litert", "litert", "the target litert") from error
    return Interpreter


class LitertSession:
    """A pool of interpreters: each serves one caller at a time.

    A graph has one batch. A call is run in pieces that the build has graphs for, the largest first. Inputs that the
    model has in int64 are int32 in the file: the caller keeps giving int64.
    """

    def __init__(self, directory: Path, build: Build, options: OpenOptions) -> None:
        import_interpreter()
        path = directory / MODEL
        self.signature = build.signature
        self.engine = Engine(name=build.engine.name, version=build.engine.version, device="CPU")
        self._build = build
        self._directory = directory
        self._batches = sorted((int(size) for size in build.options["batches"].split(",")), reverse=True)
        content = read_identified(path, IDENTIFIER, "a LiteRT model", "damaged, of another schema or no .tflite file")
        self._pool: queue.LifoQueue[_Opened] | None = queue.LifoQueue()
        threads = None if options.threads is None else max(1, options.threads // options.streams)
        for _ in range(max(1, options.streams)):
            self._pool.put(_opened(content, path, self._batches, threads))

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe; at most `streams` calls execute at the same time, others wait."""
        pool = self._pool
        if pool is None:
            raise ClosedSession(self._build.name)
        rows = len(inputs[self.signature.inputs[0].name])
        pieces = []
        opened = pool.get()
        try:
            for start, size in _pieces(rows, self._batches, self._build.name):
                part = {name: _taken(name, value[start : start + size]) for name, value in inputs.items()}
                found = opened.runners[size](**part)
                pieces.append({name: np.array(value) for name, value in found.items()})
        finally:
            pool.put(opened)
        if len(pieces) == 1:
            return pieces[0]
        return {spec.name: np.concatenate([piece[spec.name] for piece in pieces]) for spec in self.signature.outputs}

    def execution(self) -> Execution:
        """The layers as the opened model has them: integers in, out and as weights, or integers as weights alone."""
        pool = self._pool
        if pool is None:
            raise ClosedSession(self._build.name)
        left_float = read_delegation(self._directory).left_float
        opened = pool.get()
        try:
            delegation = count_delegation(opened.interpreter, self._build.precision, left_float)
        finally:
            pool.put(opened)
        provider = f"LiteRT with {delegation.delegate}: {delegation.summary()}"
        return int8_execution(delegation.layers, provider=provider, why=f": {NO_OUTPUT_SCALE}")

    def close(self) -> None:
        self._pool = None


class _Opened:
    """An interpreter and its runner for each batch."""

    def __init__(self, interpreter: Any, batches: list[int]) -> None:
        self.interpreter = interpreter
        self.runners = {size: interpreter.get_signature_runner(f"batch_{size}") for size in batches}


def allocated(content: bytes, threads: int | None = None) -> Any:
    """An interpreter whose delegate has taken what it takes. Raises ValueError or RuntimeError as LiteRT does."""
    interpreter = import_interpreter()
    with _without_remarks():
        made = interpreter(model_content=content, num_threads=threads)
        made.allocate_tensors()
    return made


def _opened(content: bytes, path: Path, batches: list[int], threads: int | None) -> _Opened:
    try:
        return _Opened(allocated(content, threads), batches)
    except (ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(
            f"expected {path} to open in LiteRT, found: {lines[0]}; the build is damaged or made by another version, "
            "export it again"
        ) from error


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keeps what the runtime's C++ writes about itself off the terminal; warnings and errors pass on after."""
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as caught:
        kept = os.dup(STANDARD_ERROR)
        os.dup2(caught.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, STANDARD_ERROR)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().splitlines():
                if not line.startswith(REMARK):
                    print(line, file=sys.stderr)


def _taken(name: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of an input as the file takes them: contiguous, integers in int32. InputError for what that cannot hold."""
    if rows.dtype != np.int64:
        return np.ascontiguousarray(rows)
    narrow = rows.astype(np.int32)
    if not np.array_equal(narrow, rows):
        raise InputError(
            f"expected {name} within int32, in which LiteRT counts, found {int(rows[narrow != rows][0])}; build "
            "onnxruntime"
        )
    return narrow


def _pieces(rows: int, batches: list[int], name: str) -> list[tuple[int, int]]:
    """(start, size) of the pieces of a call; raises InputError where the graphs' batches do not add up to it."""
    pieces, start = [], 0
    for size in batches:
        while rows - start >= size:
            pieces.append((start, size))
            start += size
    if start != rows:
        listed = ", ".join(str(size) for size in batches)
        raise InputError(
            f"expected a multiple of a batch that {name} was built for ({listed}), found {rows}; export it with "
            "batches=1 among them"
        )
    return pieces
