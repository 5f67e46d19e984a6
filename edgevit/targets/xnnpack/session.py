"""A program opened in ExecuTorch's runtime, the one that its Python package carries."""

from __future__ import annotations

import functools
import os
import queue
import re
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BundleError, InputError, missing_package
from edgevit.targets.base import ClosedSession
from edgevit.targets.delegation import read_delegation
from edgevit.targets.processor import best_instruction_set, instruction_sets
from edgevit.targets.xnnpack.lengths import LengthCheck
from edgevit.targets.xnnpack.program_file import check_program
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from edgevit.targets.base import OpenOptions
    from edgevit.types import Arrays, Build

PROGRAM = "model.pte"
METHOD = "forward"
LOG_LINE = re.compile(r"^\[[\w.]+:\d+\] ")
"""How the runtime's C++ logs: `[method.cpp:1243] Error resizing tensor at input 0`."""
HARMLESS = re.compile(r"Failed to load |W\d{4} .*torch/utils/_pytree\.py")
"""torchao's words when it is imported: on kernels for other processors, and on an enumeration of its own."""
STANDARD_ERROR = 2


class ExecutorchSession:
    """A pool of loaded methods: each serves one caller at a time, its memory is planned once.

    A program holds memory for its largest batch; a larger one is run in pieces, so that a dynamic batch takes any size.
    One of a fixed batch takes multiples of it.
    """

    def __init__(self, directory: Path, build: Build, options: OpenOptions) -> None:
        path = directory / PROGRAM
        bindings = import_executorch()
        check_program(path)
        self.signature = build.signature
        self.engine = Engine(name=build.engine.name, version=build.engine.version, device="CPU")
        self._build = build
        self._directory = directory
        fixed = build.options.get("batch")
        self._fixed = fixed is not None
        self._largest = int(fixed or build.options["max_batch"])
        self._check_lengths = LengthCheck(build)
        self._methods: queue.LifoQueue[Any] | None = queue.LifoQueue()
        if options.threads is not None:
            _pool().ask_for(max(1, options.threads), bindings)
        _pool().in_use = True
        for _ in range(max(1, options.streams)):
            self._methods.put(_loaded(path, bindings, build.engine.version))

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe; at most `streams` calls execute at the same time, others wait."""
        rows = len(inputs[self.signature.inputs[0].name])
        self._check_lengths(inputs)
        if self._fixed and rows % self._largest:
            raise InputError(
                f"expected a multiple of the batch {self._largest} that {self._build.name} was built for, found {rows} "
                "samples; export it with another, or with max_batch for any"
            )
        if rows <= self._largest:
            return self._run(inputs)
        starts = range(0, rows, self._largest)
        pieces = [self._run({name: v[at : at + self._largest] for name, v in inputs.items()}) for at in starts]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _run(self, inputs: Arrays) -> Arrays:
        methods = self._methods
        if methods is None:
            raise ClosedSession(self._build.name)
        values = [_tensor(inputs[spec.name]) for spec in self.signature.inputs]
        method = methods.get()
        try:
            found = method.execute(values)
        finally:
            methods.put(method)
        return {spec.name: value.numpy() for spec, value in zip(self.signature.outputs, found, strict=True)}

    def execution(self) -> Execution:
        """What was delegated when the program was made: the runtime of the wheel keeps no profile."""
        delegation = read_delegation(self._directory)
        wanted = [layer for layer in delegation.layers if layer.requested != "float32"]
        done = [layer for layer in wanted if layer.executed == layer.requested]
        missed = {layer.name: "its kernel was not delegated" for layer in wanted if layer not in done}
        missed |= {name.removesuffix(".weight"): why for name, why in delegation.left_float.items()}
        usual = Counter(layer.executed for layer in done).most_common(1)
        return Execution(
            precision=usual[0][0] if len(done) > len(delegation.layers) / 2 else "float32",
            provider=f"{delegation.delegate}: {delegation.summary()}",
            instruction_set=best_instruction_set(instruction_sets()),
            quantized_requested=len(wanted) + len(delegation.left_float),
            quantized_executed=len(done),
            layers=delegation.layers,
            warnings=tuple(
                f"{name} was asked for in integers and runs in float32: {why}" for name, why in missed.items()
            ),
        )

    def close(self) -> None:
        self._methods = None


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """The array as a tensor, without a copy where that is safe."""
    import torch

    # Views and arrays that nobody may write to are copied; torch would only warn and share them.
    tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
    # NumPy's arrays of no elements have strides of 0, at which the runtime aborts the process.
    return tensor if array.size else torch.empty(array.shape, dtype=tensor.dtype)


class _ThreadPool:
    """The one pool of this process. Loaded methods point to it, so another size for it would leave them a dead one."""

    def __init__(self) -> None:
        self.in_use = False

    def ask_for(self, threads: int, bindings: Any) -> None:
        """Raises InputError where methods are, or were, open with another number of threads."""
        with _engine_messages():
            found = bindings._threadpool_get_thread_count()
            if found == threads:
                return
            if not self.in_use:
                bindings._unsafe_reset_threadpool(threads)
                return
        raise InputError(
            f"expected the {found} threads that ExecuTorch has in this process already, found {threads}; open it with "
            "threads before any other ExecuTorch build, or in a process of its own"
        )


@functools.cache
def _pool() -> _ThreadPool:
    return _ThreadPool()


def import_executorch() -> Any:
    """ExecuTorch's bindings. Raises UnavailableError where they, or the torch they are made for, are missing."""
    try:
        with _engine_messages():
            import executorch.extension.pybindings.portable_lib as bindings
    except ModuleNotFoundError as error:
        missing = "torch" if error.name == "torch" else "executorch"
        raise missing_package(missing, "executorch", "the target executorch") from error
    return bindings


def _loaded(path: Path, bindings: Any, version: str) -> Any:
    from executorch.runtime import Runtime, Verification

    try:
        with _engine_messages() as messages:
            bindings._threadpool_get_thread_count()  # starts the pool, which says what it cannot find out
            program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
            return program.load_method(METHOD)
    except RuntimeError as error:
        said = next((LOG_LINE.sub("", line) for line in messages if LOG_LINE.match(line)), str(error).splitlines()[0])
        raise BundleError(
            f"expected {path} to open in ExecuTorch {version}, found: {said}; the build is damaged or made by another "
            "version, export it again"
        ) from error


@contextmanager
def _engine_messages() -> Iterator[list[str]]:
    """Keeps what the runtime's C++ writes to standard error, for the message of an error; the rest passes on after.

    Its bindings write some of it through `sys.stderr`, which in a notebook or a test is not that file.
    """
    messages: list[str] = []
    sys.stderr.flush()
    try:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as caught:
            kept = os.dup(STANDARD_ERROR)
            os.dup2(caught.fileno(), STANDARD_ERROR)
            try:
                with redirect_stderr(caught):
                    yield messages
            finally:
                caught.flush()
                os.dup2(kept, STANDARD_ERROR)
                os.close(kept)
                caught.seek(0)
                messages.extend(caught.read().splitlines())
    finally:
        for line in messages:
            if not LOG_LINE.match(line) and not HARMLESS.match(line):
                print(line, file=sys.stderr)
