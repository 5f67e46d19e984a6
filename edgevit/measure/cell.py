"""One cell of the grid (batch size, threads): every build in its own process, measured in interleaved rounds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import MeasureError
from edgevit.measure import protocol
from edgevit.measure.conditions import read_conditions
from edgevit.measure.options import BEAMS, IMAGE_SIZE, SOURCE_LENGTH, TOKENS
from edgevit.measure.process import WorkerProcess
from edgevit.measure.writing import REREADING, Loop, generation_times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevit.measure.options import BenchOptions
    from edgevit.types import GenerationTimes, Reading

SETTLE_CALLS = 1
"""Untimed calls before each turn: the builds measured in between have emptied the processor's caches."""


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a model of texts to give it some."""

    vocabulary: dict[str, int]
    """How many different ids each input may have."""
    longest_source: int
    """Tokens."""
    longest_target: int = 0
    """0 for a model that writes nothing."""
    start_token_id: int = 0

    @property
    def writes(self) -> bool:
        """Whether there is a further token to time after the first."""
        return self.longest_target > 1

    def source_length(self, options: BenchOptions) -> int:
        return options.source_length or min(SOURCE_LENGTH, self.longest_source)

    def tokens(self, options: BenchOptions) -> int:
        return options.tokens or min(TOKENS, self.longest_target)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One build to measure: where it is, how it is opened, how large it is."""

    target: str
    precision: str
    bundle: str
    size_bytes: int
    opener: str = protocol.DEFAULT_OPENER
    texts: Texts | None = None
    """None for a model of images."""
    pixels: bool = False
    """Takes raw images of any size, and prepares them inside."""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    batch_size: int
    threads: int
    streams: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one build gave in one cell."""

    rounds: tuple[tuple[int, ...], ...]
    """Nanoseconds per call, by round."""
    usage: protocol.Usage
    throughput: float
    """Items per second."""
    generation: GenerationTimes | None = None
    readings: tuple[Reading, ...] = ()
    """Of the processor, after each round of latency."""


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The order of one round: each build goes first once in as many rounds as there are builds."""
    shift = turn % len(names) if names else 0
    return [*names[shift:], *names[:shift]]


def measure_cell(
    subjects: Sequence[Subject], cell: Cell, options: BenchOptions, tick: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measures all subjects in one cell; only one process computes at any time.

    Returns the results by build name, and the reason of each build that could not be measured. `tick` is called after
    each step with what was done.
    """
    failures: dict[str, str] = {}
    rounds, usages, written, readings = _latency(subjects, cell, options, failures, tick)
    alive = [subject for subject in subjects if subject.name not in failures]
    if cell.streams == 1:
        rates = {name: _serial_rate(rounds[name], cell.batch_size) for name in usages}
    else:
        # Processes of their own: an engine is opened differently for streams, and the peak memory is one caller's.
        rates = _throughput(alive, cell, options, failures, tick)
    measured = {
        name: Measured(
            rounds=tuple(rounds[name]),
            usage=usage,
            throughput=rates[name],
            generation=written.get(name),
            readings=tuple(readings[name]),
        )
        for name, usage in usages.items()
        if name not in failures
    }
    return measured, failures


def _latency(
    subjects: Sequence[Subject],
    cell: Cell,
    options: BenchOptions,
    failures: dict[str, str],
    tick: Callable[[str], None],
) -> tuple[
    dict[str, list[tuple[int, ...]]], dict[str, protocol.Usage], dict[str, GenerationTimes], dict[str, list[Reading]]
]:
    readings: dict[str, list[Reading]] = {subject.name: [] for subject in subjects}
    rounds: dict[str, list[tuple[int, ...]]] = {subject.name: [] for subject in subjects}
    usages: dict[str, protocol.Usage] = {}
    turn = protocol.Measure(seconds=options.seconds / options.rounds, settle_calls=SETTLE_CALLS)

    def measure(name: str, worker: WorkerProcess) -> None:
        rounds[name].append(worker.ask(turn, protocol.Timings).ns)
        readings[name].append(read_conditions())  # just after it computed, and before anything else does
        tick(f"{name}: latency")

    def report(name: str, worker: WorkerProcess) -> None:
        usages[name] = worker.ask(protocol.Report(), protocol.Usage)

    with ExitStack() as stack:
        workers = _open_all(stack, subjects, msgspec.structs.replace(cell, streams=1), options, failures)
        _in_turn(workers, options.rounds, measure, failures)
        written = _writing(workers, subjects, cell, options, failures, tick)
        _in_turn(workers, 1, report, failures)
    return rounds, usages, written, readings


def _writing(
    workers: dict[str, WorkerProcess],
    subjects: Sequence[Subject],
    cell: Cell,
    options: BenchOptions,
    failures: dict[str, str],
    tick: Callable[[str], None],
) -> dict[str, GenerationTimes]:
    """The decoding loops of the builds that write, in the same turns; each kind of loop has an equal share."""
    writers = {subject.name: subject.texts for subject in subjects if subject.texts and subject.texts.writes}
    sources = {subject.name: dimensions_of(subject, options).get("source_length", 0) for subject in subjects}
    rounds: dict[str, dict[Loop, list[tuple[tuple[int, ...], ...]]]] = {}
    sizes: dict[str, dict[int, int]] = {}
    loops = [Loop(beams) for beams in dict.fromkeys((1, *(options.beams or BEAMS)))]
    loops += [REREADING] if options.without_cache else []

    def once(name: str, worker: WorkerProcess) -> None:
        texts = writers[name]
        command = protocol.WriteOnce(tokens=texts.tokens(options), start_token_id=texts.start_token_id)
        sizes[name] = worker.ask(command, protocol.Sizes).resident_bytes

    def measure(name: str, worker: WorkerProcess) -> None:
        texts = writers[name]
        for loop in loops:
            command = protocol.Write(
                seconds=options.seconds / options.rounds / len(loops),
                beams=loop.beams,
                cache=loop.cache,
                tokens=texts.tokens(options),
                start_token_id=texts.start_token_id,
                settle_calls=SETTLE_CALLS,
            )
            rounds.setdefault(name, {}).setdefault(loop, []).append(worker.ask(command, protocol.TokenTimings).runs)
        tick(f"{name}: writing")

    own = {name: workers[name] for name in writers if name in workers}
    _in_turn(own, 1, once, failures)
    _in_turn(own, options.rounds, measure, failures)
    return {
        name: generation_times(given, sizes[name], cell.batch_size, sources[name])
        for name, given in rounds.items()
        if name not in failures
    }


def _throughput(
    subjects: Sequence[Subject],
    cell: Cell,
    options: BenchOptions,
    failures: dict[str, str],
    tick: Callable[[str], None],
) -> dict[str, float]:
    rates: dict[str, list[protocol.Rate]] = {subject.name: [] for subject in subjects}
    turn = protocol.Throughput(seconds=options.seconds / options.rounds, streams=cell.streams)

    def measure(name: str, worker: WorkerProcess) -> None:
        rates[name].append(worker.ask(turn, protocol.Rate))
        tick(f"{name}: throughput")

    with ExitStack() as stack:
        workers = _open_all(stack, subjects, cell, options, failures)
        _in_turn(workers, options.rounds, measure, failures)
    return {
        name: cell.batch_size * sum(rate.calls for rate in given) / (sum(rate.elapsed_ns for rate in given) / 1e9)
        for name, given in rates.items()
        if name not in failures
    }


def _open_all(
    stack: ExitStack, subjects: Sequence[Subject], cell: Cell, options: BenchOptions, failures: dict[str, str]
) -> dict[str, WorkerProcess]:
    """Starts, opens, prepares and warms one process after the other; `stack` ends them."""
    workers = {}
    for subject in subjects:
        opening = opening_of(subject, cell)
        worker = stack.enter_context(WorkerProcess(options.timeout))
        prepare = protocol.Prepare(
            batch_size=cell.batch_size,
            seed=options.seed,
            dimensions=dimensions_of(subject, options),
            vocabulary=subject.texts.vocabulary if subject.texts else {},
        )
        try:
            worker.ask(protocol.Open(opening=opening), protocol.Opened)
            worker.ask(prepare, protocol.Done)
            worker.ask(protocol.Warm(seconds=options.warmup_seconds, streams=cell.streams), protocol.Done)
        except MeasureError as error:
            failures[subject.name] = str(error)
        else:
            workers[subject.name] = worker
    return workers


def _in_turn(
    workers: dict[str, WorkerProcess],
    rounds: int,
    act: Callable[[str, WorkerProcess], None],
    failures: dict[str, str],
) -> None:
    """Lets every living process act once per round, in rotated order; one that fails is left out from then on."""
    for turn in range(rounds):
        for name in rotated(list(workers), turn):
            if name in failures:
                continue
            try:
                act(name, workers[name])
            except MeasureError as error:
                failures[name] = str(error)


def dimensions_of(subject: Subject, options: BenchOptions) -> dict[str, int]:
    """Sizes of raw images, or of the lengths of texts, unless the options give others."""
    texts = subject.texts
    if subject.pixels:
        height, width = options.image_size or IMAGE_SIZE
        return {"height": height, "width": width, **options.dimensions}
    if texts is None:
        return options.dimensions
    lengths = {"source_length": texts.source_length(options), "target_length": max(1, texts.tokens(options))}
    return {**lengths, **options.dimensions}


def opening_of(subject: Subject, cell: Cell) -> protocol.Opening:
    return protocol.Opening(
        opener=subject.opener,
        bundle=subject.bundle,
        build=subject.name,
        threads=cell.threads,
        streams=cell.streams,
    )


def _serial_rate(rounds: Sequence[Sequence[int]], batch_size: int) -> float:
    """Items per second of one caller, from the latency calls themselves."""
    return batch_size * sum(map(len, rounds)) / (sum(map(sum, rounds)) / 1e9)
