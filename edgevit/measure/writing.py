"""A decoding loop under the clock: every token of every run, in the measuring process; and what came of it."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import InputError
from edgevit.measure.memory import resident_memory
from edgevit.measure.samples import latency_of
from edgevit.runtime.loop import Decoding
from edgevit.runtime.parts import MASK, TOKENS, PartsSession
from edgevit.runtime.search import generate, greedy
from edgevit.types import BeamRate, Generation, GenerationTimes, MemoryAt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgevit.measure.protocol import Write, WriteOnce
    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays

    Clock = Callable[[], int]
    Runs = Sequence[Sequence[int]]

NO_TOKEN = -1
"""As the end token: every sequence gets its full length."""


def time_tokens(
    session: EngineSession, inputs: Arrays, command: Write, clock: Clock = time.perf_counter_ns
) -> list[list[int]]:
    """Nanoseconds of each token of each run, the encoder's in the first; of a beam search the sum of each run.

    After `settle_calls` untimed runs, for at least `seconds` and one run, with the garbage collector off.
    """
    settings = _settings(command.start_token_id, command.tokens, command.beams)
    run = _greedy_run if command.beams == 1 else _beam_run
    decoder = _writing(session)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(command.settle_calls):
            run(decoder, inputs, settings, clock)
        deadline = clock() + round(command.seconds * 1e9)
        runs = [run(decoder, inputs, settings, clock)]
        while clock() < deadline:
            runs.append(run(decoder, inputs, settings, clock))
        return runs
    finally:
        if collecting:
            gc.enable()


def sizes_while_writing(session: EngineSession, inputs: Arrays, command: WriteOnce) -> dict[int, int]:
    """Resident bytes of this process after 1, 2, 4, … tokens and after the last."""
    settings = _settings(command.start_token_id, command.tokens, beams=1)
    sizes: dict[int, int] = {}
    with Decoding(_writing(session), inputs[TOKENS], inputs[MASK]) as steps:
        for count, _ in enumerate(greedy(steps, len(inputs[TOKENS]), settings), 1):
            if count & (count - 1) == 0 or count == command.tokens:
                sizes[count] = resident_memory()
    return sizes


def generation_times(
    rounds: Mapping[int, Sequence[Runs]], sizes: Mapping[int, int], batch_size: int, source_length: int
) -> GenerationTimes:
    """Figures from raw times: for each number of beams the runs of each round, of one beam token by token.

    Every round needs a run of more than one token.
    """
    by_token = rounds[1]
    every = np.asarray([run for runs in by_token for run in runs], dtype=np.float64)
    tokens = every.shape[1]
    rates = {beams: [sum(run) for runs in given for run in runs] for beams, given in rounds.items()}
    return GenerationTimes(
        source_length=source_length,
        tokens=tokens,
        first_token=latency_of([[run[0] for run in runs] for runs in by_token]),
        next_token=latency_of([[nanoseconds for run in runs for nanoseconds in run[1:]] for runs in by_token]),
        by_place=tuple(float(value) for value in np.median(every, axis=0) / 1e6),
        rates=tuple(
            BeamRate(beams=beams, tokens_per_second=batch_size * tokens * len(totals) / (sum(totals) / 1e9))
            for beams, totals in rates.items()
        ),
        memory=tuple(MemoryAt(tokens=count, resident_bytes=size) for count, size in sizes.items()),
    )


def _greedy_run(session: PartsSession, inputs: Arrays, settings: Generation, clock: Clock) -> list[int]:
    times: list[int] = []
    last = clock()
    with Decoding(session, inputs[TOKENS], inputs[MASK]) as steps:
        for _ in greedy(steps, len(inputs[TOKENS]), settings):
            now = clock()
            times.append(now - last)
            last = now
    return times


def _beam_run(session: PartsSession, inputs: Arrays, settings: Generation, clock: Clock) -> list[int]:
    began = clock()
    with Decoding(session, inputs[TOKENS], inputs[MASK]) as steps:
        generate(steps, len(inputs[TOKENS]), settings)
    return [clock() - began]


def _settings(start: int, tokens: int, beams: int) -> Generation:
    return Generation(start_token_id=start, end_token_id=NO_TOKEN, pad_token_id=0, max_length=tokens, beams=beams)


def _writing(session: EngineSession) -> PartsSession:
    if not isinstance(session, PartsSession):
        raise InputError("expected a build with an encoder and a decoder, found one graph; it writes nothing to time")
    return session
