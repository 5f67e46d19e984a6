"""Latency, throughput, cold start, memory and size of every build of a bundle, side by side on this machine."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from edgevit.bundle import open_bundle
from edgevit.errors import InputError, MeasureError
from edgevit.files import inside
from edgevit.measure.cell import Cell, Measured, Subject, Texts, dimensions_of, measure_cell, opening_of
from edgevit.measure.coldstart import ColdStartOptions, measure_cold_start
from edgevit.measure.conditions import conditions_of
from edgevit.measure.judge import busy_warnings, drift_warnings, judged
from edgevit.measure.machine import available_cores, busy_share, describe_machine
from edgevit.measure.options import IMAGE_SIZE, BenchOptions, check
from edgevit.measure.protocol import DEFAULT_OPENER
from edgevit.measure.samples import drift_noise_of, drift_of, latency_of
from edgevit.preprocess import vocabulary_size
from edgevit.runtime.parts import TARGET_TOKENS
from edgevit.types import BenchEntry, BenchReport, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgevit.bundle import Bundle
    from edgevit.types import ColdStart

    Progress = Callable[[int, int, str], None]
    """(steps done, steps in all, what was done)"""


def bench(
    bundle: Path, options: BenchOptions, progress: Progress | None = None, *, opener: str = DEFAULT_OPENER
) -> BenchReport:
    """Measures the builds of the bundle in the directory `bundle`; see `bench_builds`.

    `opener` ("package.module:function") opens a build in a measuring process; the default is the runtime's own. Raises
    BundleError where the bundle is damaged, InputError for options or targets that make no sense.
    """
    opened = open_bundle(bundle)
    return bench_builds(opened.manifest.model, subjects_of(opened, opener), options, progress)


def subjects_of(bundle: Bundle, opener: str = DEFAULT_OPENER) -> list[Subject]:
    """Every build of an opened bundle."""
    texts = texts_of(bundle)
    return [
        Subject(
            texts=texts,
            pixels=build.takes_pixels,
            target=build.target,
            precision=build.precision,
            bundle=str(bundle.root),
            size_bytes=sum(file.size for file in build.files),
            opener=opener,
        )
        for build in bundle.manifest.builds
    ]


def texts_of(bundle: Bundle) -> Texts | None:
    """The ids and lengths that a bundle's model of texts takes; None for a model of images."""
    spec, generation = bundle.manifest.preprocess, bundle.manifest.generation
    if not isinstance(spec, TextPreprocess):
        return None
    vocabulary = {spec.input: vocabulary_size(inside(bundle.root, spec.tokenizer))}
    if generation is None:
        return Texts(vocabulary=vocabulary, longest_source=spec.max_length)
    vocabulary[TARGET_TOKENS] = vocabulary_size(inside(bundle.root, generation.tokenizer))
    return Texts(
        vocabulary=vocabulary,
        longest_source=spec.max_length,
        longest_target=generation.max_length,
        start_token_id=generation.start_token_id,
    )


def bench_builds(
    model: str, subjects: Sequence[Subject], options: BenchOptions, progress: Progress | None = None
) -> BenchReport:
    """Measures the given builds on this machine; `bench` is the same for a bundle.

    A build that cannot be opened, or whose process dies, is in `not_executed` with the reason, and the rest is still
    measured. Verdict of a build that is not float32: `worth it` when the whole confidence interval of its latency
    ratio lies below 1, else `not worth it` - a gain that was not shown is not a gain. Raises InputError for options
    or targets that make no sense.
    """
    check(options)
    chosen = select(subjects, options.targets)
    _check_texts(chosen, options)
    cells = _cells(options)
    busy = busy_warnings(busy_share())
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    tick = _ticker(_steps(cells, chosen, options), progress)
    entries: list[BenchEntry] = []
    failures: dict[Cell, dict[str, str]] = {}
    for cell in cells:
        measured, failures[cell] = measure_cell(chosen, cell, options, tick)
        entries.extend(_cell_entries(chosen, cell, measured, options))
    entries, warnings = _with_cold_starts(entries, chosen, options, tick)
    return BenchReport(
        model=model,
        machine=describe_machine(),
        seconds=options.seconds,
        rounds=options.rounds,
        entries=tuple(entries),
        not_executed=_not_executed(failures),
        started=started,
        warnings=(*busy, *drift_warnings(entries), *warnings),
    )


def select(subjects: Sequence[Subject], targets: Sequence[str]) -> list[Subject]:
    """The subjects that `targets` name (`openvino`, `openvino:int8` or `openvino-int8`), in their own order.

    Raises InputError, with the choices, for a target that names none, and where there is nothing to measure.
    """
    if not subjects:
        raise InputError("expected builds to measure, found none; export the bundle again with at least one --target")
    for target in targets:
        if not any(target in _names(subject) for subject in subjects):
            choices = ", ".join(f"{subject.target}:{subject.precision}" for subject in subjects)
            raise InputError(f"expected a target of the bundle ({choices}), found '{target}'; choose one of these")
    return [subject for subject in subjects if not targets or not _names(subject).isdisjoint(targets)]


def _check_texts(subjects: Sequence[Subject], options: BenchOptions) -> None:
    """Raises InputError for lengths beyond the model's, and for what only models that read or write texts have."""
    texts = [subject.texts for subject in subjects if subject.texts is not None]
    most = {
        "source_length": (options.source_length, min((text.longest_source for text in texts), default=0)),
        "tokens": (options.tokens, min((text.longest_target for text in texts), default=0)),
    }
    for name, (wanted, limit) in most.items():
        if wanted is not None and 0 < limit < wanted:
            raise InputError(
                f"expected {name} of at most {limit}, the model's own limit, found {wanted}; ask for fewer"
            )
    wants = [name for name in ("tokens", "beams", "without_cache") if getattr(options, name)]
    if wants and not any(text.writes for text in texts):
        raise InputError(
            f"expected a model that writes text for {', '.join(wants)}, found one that does not; leave it out"
        )
    if options.source_length and not texts:
        raise InputError("expected a model of texts for source_length, found one of images; leave it out")


def _names(subject: Subject) -> set[str]:
    return {subject.target, subject.name, f"{subject.target}:{subject.precision}"}


def _cells(options: BenchOptions) -> list[Cell]:
    return [
        Cell(batch_size=batch_size, threads=threads, streams=options.streams or threads)
        for batch_size in options.batch_sizes
        for threads in (options.threads or (available_cores(),))
    ]


def _cell_entries(
    subjects: Sequence[Subject], cell: Cell, measured: dict[str, Measured], options: BenchOptions
) -> list[BenchEntry]:
    entries = [
        _entry(subject, cell, measured[subject.name], options.image_size)
        for subject in subjects
        if subject.name in measured
    ]
    return [judged(entry, entries, options.seed) for entry in entries]


def _entry(subject: Subject, cell: Cell, measured: Measured, image_size: tuple[int, int] | None) -> BenchEntry:
    return BenchEntry(
        target=subject.target,
        precision=subject.precision,
        batch_size=cell.batch_size,
        threads=cell.threads,
        latency=latency_of(measured.rounds),
        throughput=measured.throughput,
        streams=cell.streams,
        peak_memory_bytes=measured.usage.peak_memory_bytes,
        size_bytes=subject.size_bytes,
        executed_precision=measured.usage.execution.precision,
        drift=drift_of(measured.rounds),
        drift_noise=drift_noise_of(measured.rounds),
        conditions=conditions_of(measured.readings),
        generation=measured.generation,
        image_size=(image_size or IMAGE_SIZE) if subject.pixels else None,
    )


def _with_cold_starts(
    entries: Sequence[BenchEntry], subjects: Sequence[Subject], options: BenchOptions, tick: Callable[[str], None]
) -> tuple[list[BenchEntry], list[str]]:
    """Adds to each build's first entry its cold start under that entry's setting, and says which failed."""
    opened = {subject.name: subject for subject in subjects}
    warnings: list[str] = []
    measured: list[BenchEntry] = []
    for entry in entries:
        # Taking the subject out leaves later entries of the same build as they are.
        subject = opened.pop(entry.name, None) if options.cold_starts else None
        if subject is None:
            measured.append(entry)
            continue
        try:
            measured.append(msgspec.structs.replace(entry, cold_start=_cold_start(subject, entry, options)))
        except MeasureError as error:
            measured.append(entry)
            warnings.append(f"{entry.name}: its cold start could not be measured: {error}")
        tick(f"{entry.name}: cold start")
    return measured, warnings


def _cold_start(subject: Subject, entry: BenchEntry, options: BenchOptions) -> ColdStart:
    cell = Cell(batch_size=entry.batch_size, threads=entry.threads, streams=1)
    starts = ColdStartOptions(
        repeats=options.cold_starts,
        batch_size=entry.batch_size,
        dimensions=dimensions_of(subject, options),
        timeout=options.timeout,
    )
    return measure_cold_start(opening_of(subject, cell), starts)


def _not_executed(failures: dict[Cell, dict[str, str]]) -> dict[str, str]:
    """Reasons by build name where a build failed in every cell for one reason; else by build name and setting."""
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(name for failed in failures.values() for name in failed):
        given = {cell: failed[name] for cell, failed in failures.items() if name in failed}
        if len(given) == len(failures) and len(set(given.values())) == 1:
            reasons[name] = next(iter(given.values()))
        else:
            for cell, reason in given.items():
                reasons[f"{name} (batch {cell.batch_size}, threads {cell.threads})"] = reason
    return reasons


def _steps(cells: Sequence[Cell], chosen: Sequence[Subject], options: BenchOptions) -> int:
    rounds = sum(options.rounds * (1 if cell.streams == 1 else 2) for cell in cells)
    writers = sum(subject.texts is not None and subject.texts.writes for subject in chosen)
    steps = len(chosen) * (rounds + (1 if options.cold_starts else 0))
    return steps + writers * options.rounds * len(cells)


def _ticker(total: int, progress: Progress | None) -> Callable[[str], None]:
    done = iter(range(1, total + 1))

    def tick(what: str) -> None:
        if progress is not None:
            progress(next(done), total, what)

    return tick
