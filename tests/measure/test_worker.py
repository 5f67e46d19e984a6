from __future__ import annotations

import gc
import io
import itertools
import threading
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.measure import protocol
from edgevit.measure.worker import Worker, open_session, run_concurrently, serve, time_calls

INPUTS = {"pixel_values": np.ones((2, 3), dtype=np.float32)}


class Clock:
    """Advances only when told to, nanoseconds."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def call_lasting(clock: Clock, durations: Iterator[int]) -> Callable[[object], None]:
    def run(_: object) -> None:
        clock.now += next(durations)

    return run


def test_calls_are_timed_until_the_seconds_are_over() -> None:
    clock = Clock()
    run = call_lasting(clock, itertools.cycle([300_000_000, 500_000_000]))
    assert time_calls(run, INPUTS, protocol.Measure(seconds=1.0), clock) == [300_000_000, 500_000_000, 300_000_000]


def test_settling_calls_are_not_timed_and_do_not_use_up_the_seconds() -> None:
    clock = Clock()
    run = call_lasting(clock, iter([9_000_000_000, 8_000_000_000, 600_000_000, 700_000_000]))
    command = protocol.Measure(seconds=1.0, settle_calls=2)
    assert time_calls(run, INPUTS, command, clock) == [600_000_000, 700_000_000]


def test_a_least_number_of_calls_outlasts_the_seconds() -> None:
    clock = Clock()
    run = call_lasting(clock, itertools.repeat(2_000_000_000))
    assert len(time_calls(run, INPUTS, protocol.Measure(seconds=1.0, min_calls=3), clock)) == 3


def test_the_garbage_collector_is_off_while_timing_and_on_again_after_an_error() -> None:
    seen = []

    def run(_: object) -> None:
        seen.append(gc.isenabled())
        raise RuntimeError("refused")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="refused"):
        time_calls(run, INPUTS, protocol.Measure(seconds=0.0))
    assert seen == [False]
    assert gc.isenabled()


def test_streams_run_at_the_same_time_and_every_call_is_counted() -> None:
    together = threading.Barrier(3, timeout=20)  # breaks, and so fails the test, unless three calls run at once
    lock, calls = threading.Lock(), []

    def run(_: object) -> None:
        with lock:
            calls.append(1)
            first = len(calls) <= 3
        if first:
            together.wait()

    rate = run_concurrently(run, INPUTS, protocol.Throughput(seconds=0.01, streams=3))
    assert rate.calls == len(calls) >= 3
    assert rate.elapsed_ns >= 10_000_000


def test_an_exception_in_a_stream_is_raised_in_the_caller() -> None:
    def run(_: object) -> None:
        raise ValueError("inside a stream")

    with pytest.raises(ValueError, match="inside a stream"):
        run_concurrently(run, INPUTS, protocol.Throughput(seconds=10.0, streams=2))


def test_serve_answers_every_command_and_obeys_after_a_failure(make_opening: Callable[..., protocol.Opening]) -> None:
    opening = make_opening(executes="bf16", raise_at=2)
    commands = [
        protocol.Measure(seconds=0.0),
        protocol.Open(opening=opening),
        protocol.Prepare(batch_size=3, seed=1),
        protocol.Measure(seconds=0.0),
        protocol.Measure(seconds=0.0),
        protocol.Throughput(seconds=0.0, streams=2),
        protocol.Report(),
        protocol.Stop(),
        protocol.Report(),
    ]
    replies = io.BytesIO()
    serve(io.BytesIO(b"".join(msgspec.json.encode(command) + b"\n" for command in commands)), replies)
    decoded = [msgspec.json.decode(line, type=protocol.Reply) for line in replies.getvalue().splitlines()]
    kinds = ["Failure", "Opened", "Done", "Timings", "Failure", "Rate", "Usage", "Done"]  # nothing after Stop
    assert [type(reply).__name__ for reply in decoded] == kinds
    assert isinstance(decoded[0], protocol.Failure)
    assert decoded[0].kind == "InputError"
    assert decoded[4] == protocol.Failure(kind="RuntimeError", message="RuntimeError: the fake engine refused the call")
    assert isinstance(decoded[6], protocol.Usage)
    assert decoded[6].execution.precision == "bf16"
    assert decoded[6].peak_memory_bytes > 2**20


def test_a_closed_worker_needs_a_new_open(make_opening: Callable[..., protocol.Opening]) -> None:
    worker = Worker()
    worker.obey(protocol.Open(opening=make_opening()))
    worker.obey(protocol.Stop())
    with pytest.raises(InputError, match="send Open first"):
        worker.obey(protocol.Prepare(batch_size=1, seed=0))


def test_an_opener_that_is_no_reference_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected an opener as 'package\.module:function', found 'os\.system'"):
        open_session(protocol.Opening(opener="os.system", bundle=".", build="x"))
