"""The measuring process: opens one build and obeys commands, one JSON document per line (see `protocol`).

Run as `python -m edgevit.measure.worker`; commands on standard input, replies on what was standard output. The engine
lives alone here, so that its threads, memory and crashes are its own.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from edgevit.errors import EdgevitError, InputError
from edgevit.measure import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays

    Run = Callable[[Arrays], object]
    Clock = Callable[[], int]


def time_calls(run: Run, inputs: Arrays, command: protocol.Measure, clock: Clock = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of each call, after `settle_calls` untimed ones, for at least `seconds` and `min_calls`.

    The garbage collector is off meanwhile, as in timeit: its pauses are not the engine's.
    """
    samples: list[int] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(command.settle_calls):
            run(inputs)
        deadline = clock() + round(command.seconds * 1e9)
        while True:
            start = clock()
            run(inputs)
            stop = clock()
            samples.append(stop - start)
            if stop >= deadline and len(samples) >= command.min_calls:
                return samples
    finally:
        if collecting:
            gc.enable()


def run_concurrently(run: Run, inputs: Arrays, command: protocol.Throughput) -> protocol.Rate:
    """Calls finished by `streams` threads that start together and stop taking new calls after `seconds`.

    Every thread finishes at least one call. The first exception of any thread is raised here.
    """
    counts = [0] * command.streams
    errors: list[Exception] = []
    start = threading.Barrier(command.streams + 1)

    def stream(index: int) -> None:
        start.wait()
        deadline = time.perf_counter_ns() + round(command.seconds * 1e9)
        try:
            while counts[index] == 0 or (time.perf_counter_ns() < deadline and not errors):
                run(inputs)
                counts[index] += 1
        except Exception as error:  # Whatever an engine raises belongs to the caller, not to a thread's traceback.
            errors.append(error)

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(command.streams)]
    for thread in threads:
        thread.start()
    began = time.perf_counter_ns()
    start.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return protocol.Rate(calls=sum(counts), elapsed_ns=time.perf_counter_ns() - began)


class Worker:
    """One build, opened at most once, and the inputs it is measured with."""

    def __init__(self) -> None:
        self._session: EngineSession | None = None
        self._inputs: Arrays | None = None

    def obey(self, command: protocol.Command) -> protocol.Reply:
        match command:
            case protocol.Open(opening=opening):
                self._session = open_session(opening)
                return protocol.Opened(signature=self._session.signature, engine=self._session.engine)
            case protocol.Prepare():
                # NumPy's random module is not needed for a cold start, which must not pay for importing it.
                from edgevit.measure.inputs import random_inputs

                signature = self._opened().signature
                self._inputs = random_inputs(
                    signature, command.batch_size, command.seed, command.dimensions, command.vocabulary
                )
                return protocol.Done()
            case protocol.Warm():
                self._warm(command)
                return protocol.Done()
            case protocol.Measure():
                return protocol.Timings(ns=tuple(time_calls(self._opened().run, self._prepared(), command)))
            case protocol.Write():
                from edgevit.measure.writing import time_tokens

                runs = time_tokens(self._opened(), self._prepared(), command)
                return protocol.TokenTimings(runs=tuple(map(tuple, runs)))
            case protocol.WriteOnce():
                from edgevit.measure.writing import sizes_while_writing

                return protocol.Sizes(resident_bytes=sizes_while_writing(self._opened(), self._prepared(), command))
            case protocol.Throughput():
                return run_concurrently(self._opened().run, self._prepared(), command)
            case protocol.FirstResult():
                return self._first_result(command)
            case protocol.Report():
                from edgevit.measure.memory import peak_memory

                peak = peak_memory()
                return protocol.Usage(peak_memory_bytes=peak, execution=self._opened().execution())
            case protocol.Stop():
                self.close()
                return protocol.Done()

    def close(self) -> None:
        session, self._session, self._inputs = self._session, None, None
        if session is not None:
            session.close()

    def _warm(self, command: protocol.Warm) -> None:
        run, inputs = self._opened().run, self._prepared()
        if command.streams == 1:
            # From this thread, as the timed calls are: an engine may keep its threads per calling thread.
            time_calls(run, inputs, protocol.Measure(seconds=command.seconds))
        else:
            run_concurrently(run, inputs, protocol.Throughput(seconds=command.seconds, streams=command.streams))

    def _first_result(self, command: protocol.FirstResult) -> protocol.ResultAt:
        from edgevit.measure.inputs import zero_inputs

        self._session = open_session(command.opening)
        self._session.run(zero_inputs(self._session.signature, command.batch_size, command.dimensions))
        return protocol.ResultAt(monotonic_ns=time.monotonic_ns())

    def _opened(self) -> EngineSession:
        if self._session is None:
            raise InputError("expected an opened build, found none, in the measuring process; send Open first")
        return self._session

    def _prepared(self) -> Arrays:
        if self._inputs is None:
            raise InputError("expected prepared inputs, found none, in the measuring process; send Prepare first")
        return self._inputs


def open_session(opening: protocol.Opening) -> EngineSession:
    """Imports the opener and calls it. Raises InputError for a reference that is not "module:function"."""
    from edgevit.targets.base import OpenOptions

    module, _, function = opening.opener.partition(":")
    if not module or not function:
        raise InputError(f"expected an opener as 'package.module:function', found '{opening.opener}'")
    options = OpenOptions(
        threads=opening.threads,
        streams=opening.streams,
        cache_dir=None if opening.cache_dir is None else Path(opening.cache_dir),
    )
    session: EngineSession = getattr(importlib.import_module(module), function)(
        Path(opening.bundle), opening.build, options
    )
    return session


def serve(commands: BinaryIO, replies: BinaryIO) -> None:
    """Obeys until Stop or the end of `commands`; a command that raises is answered with a Failure."""
    decoder = msgspec.json.Decoder(protocol.Command)
    encoder = msgspec.json.Encoder()
    worker = Worker()
    for line in commands:
        command = decoder.decode(line)
        try:
            reply = worker.obey(command)
        except Exception as error:  # The boundary of the process: the parent turns every failure into a reason.
            reply = failure(error)
        replies.write(encoder.encode(reply) + b"\n")
        replies.flush()
        if isinstance(command, protocol.Stop):
            return
    worker.close()


def failure(error: Exception) -> protocol.Failure:
    """One line of what went wrong; a foreign exception is named and its traceback goes to standard error."""
    if isinstance(error, EdgevitError):
        return protocol.Failure(kind=type(error).__name__, message=str(error))
    traceback.print_exception(error)
    text = " ".join(str(error).split())
    return protocol.Failure(kind=type(error).__name__, message=f"{type(error).__name__}: {text}")


def main() -> int:
    # Engines print to file descriptor 1 (progress, warnings from C++): replies get a descriptor of their own.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
