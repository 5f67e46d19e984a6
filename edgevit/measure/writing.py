"""A decoding loop under the clock: every token of every run, in the measuring process; and what came of it."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevit.errors import InputError
from edgevit.measure.memory import resident_memory
from edgevit.measure.samples import latency_of
from edgevit.runtime.loop import Decoding
from edgevit.runtime.parts import LOGITS, MASK, TOKENS, PartsSession
from edgevit.runtime.search import generate, greedy
from edgevit.types import BeamRate, Generation, GenerationTimes, MemoryAt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from edgevit.measure.protocol import Write, WriteOnce
    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays, FloatArray

    Clock = Callable[[], int]
    Runs = Sequence[Sequence[int]]


class Loop(NamedTuple):
    """One way to write."""

    beams: int
    cache: bool = True


GREEDY, REREADING = Loop(1), Loop(1, cache=False)
NO_TOKEN = -1
"""As the end token: every sequence gets its full length."""


def time_tokens(
    session: EngineSession, inputs: Arrays, command: Write, clock: Clock = time.perf_counter_ns
) -> list[list[int]]:
    """Nanoseconds of each token of each run, the encoder's in the first; of a beam search the sum of each run.

    After `settle_calls` untimed runs, for at least `seconds` and one run, with the garbage collector off. Without the
    cache the sum of each run too.
    """
    settings = _settings(command.start_token_id, command.tokens, command.beams)
    run = _beam_run if command.beams > 1 else _greedy_run if command.cache else _rereading_run
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
    rounds: Mapping[Loop, Sequence[Runs]], sizes: Mapping[int, int], batch_size: int, source_length: int
) -> GenerationTimes:
    """Figures from raw times: for each loop the runs of each round, of `GREEDY` token by token.

    Every round needs a run of more than one token.
    """
    by_token = rounds[GREEDY]
    every = np.asarray([run for runs in by_token for run in runs], dtype=np.float64)
    tokens = every.shape[1]

    def rate(loop: Loop) -> float:
        totals = [sum(run) for runs in rounds[loop] for run in runs]
        return float(batch_size * tokens * len(totals) / (sum(totals) / 1e9))

    return GenerationTimes(
        source_length=source_length,
        tokens=tokens,
        first_token=latency_of([[run[0] for run in runs] for runs in by_token]),
        next_token=latency_of([[nanoseconds for run in runs for nanoseconds in run[1:]] for runs in by_token]),
        by_place=tuple(float(value) for value in np.median(every, axis=0) / 1e6),
        rates=tuple(BeamRate(beams=loop.beams, tokens_per_second=rate(loop)) for loop in rounds if loop.cache),
        memory=tuple(MemoryAt(tokens=count, resident_bytes=size) for count, size in sizes.items()),
        without_cache=rate(REREADING) if REREADING in rounds else None,
    )


class Rereading:
    """A decoder without a cache, as `Steps`: it reads every token that was written again for the next one."""

    def __init__(self, session: PartsSession, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> None:
        self._decoder = session.decoder
        self._encoded = session.encode(input_ids, attention_mask)
        self._written = np.empty((len(input_ids), 0), dtype=np.int64)

    def step(self, tokens: NDArray[np.int64]) -> FloatArray:
        self._written = np.concatenate([self._written, tokens[:, None]], axis=1)
        logits: FloatArray = self._decoder.run({TOKENS: self._written, **self._encoded})[LOGITS]
        return logits[:, -1]

    def select(self, rows: NDArray[np.int64]) -> None:
        self._written = self._written[rows]
        self._encoded = {name: array[rows] for name, array in self._encoded.items()}


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


def _rereading_run(session: PartsSession, inputs: Arrays, settings: Generation, clock: Clock) -> list[int]:
    began = clock()
    generate(Rereading(session, inputs[TOKENS], inputs[MASK]), len(inputs[TOKENS]), settings)
    return [clock() - began]


def _settings(start: int, tokens: int, beams: int) -> Generation:
    return Generation(start_token_id=start, end_token_id=NO_TOKEN, pad_token_id=0, max_length=tokens, beams=beams)


def _writing(session: EngineSession) -> PartsSession:
    if not isinstance(session, PartsSession):
        raise InputError("expected a build with an encoder and a decoder, found one graph; it writes nothing to time")
    return session
