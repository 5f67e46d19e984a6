"""`edgevit bench BUNDLE --ssh HOST`: what can run there is sent, measured there, and the report comes back.

What travels is a bundle of its own: the chosen builds and what they need, under a manifest that lists nothing else, so
that the device checks every checksum before it measures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgevit import __version__
from edgevit.bundle import GOLDEN, MANIFEST, open_bundle, write_manifest
from edgevit.devices import (
    RUNTIMES,
    Connection,
    RefusalError,
    copy,
    explained,
    needs_of,
    one_line,
    prepare,
    why_not_there,
    write_wheel,
)
from edgevit.errors import InputError, MeasureError, OutputError, UnavailableError
from edgevit.files import inside
from edgevit.measure import BenchOptions
from edgevit.measure.bench import select, subjects_of
from edgevit.measure.options import check
from edgevit.pipeline.bench_there import BUNDLE, Failed, Measured, Step, Told
from edgevit.progress import Progress, Silent
from edgevit.types import BenchReport, TextPreprocess

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.devices import Transport
    from edgevit.types import Build

_SPARE = 300 << 20
"""Bytes that the environment and the engine's own files may take on a device beside what is sent."""
_BY_STATUS = {1: MeasureError, 2: InputError, 3: UnavailableError}


def bench_on(
    bundle: str | Path,
    device: Transport,
    options: BenchOptions | None = None,
    progress: Progress | None = None,
    *,
    wheels: Path | None = None,
) -> BenchReport:
    """`bench`, on another machine; the report says which one, and what could not be measured there.

    The device needs Python 3.11; it gets edgevit and the builds' engines in a virtual environment that stays there,
    from its package index or, with `wheels`, from that folder here. Everything else is removed, on Ctrl-C too. Raises
    UnavailableError where the device cannot be reached or cannot install them, OutputError where its disk is full,
    and what `bench` raises there.
    """
    options, progress = options or BenchOptions(), progress or Silent()
    check(options)
    opened = open_bundle(bundle, check="hashes")
    wanted = {subject.name for subject in select(subjects_of(opened), options.targets)}
    builds = tuple(build for build in opened.manifest.builds if build.name in wanted)
    left_out = {build.name: why_not_there(build) for build in builds if why_not_there(build)}
    sent = tuple(build for build in builds if build.name not in left_out)
    if not sent:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UnavailableError(f"expected a build that {device.name} can run, found none ({reasons})")
    with tempfile.TemporaryDirectory() as scratch, Connection(device) as connection:
        facts = connection.facts
        progress.note(f"{device.name}: {facts['system']} on {facts['machine']}, Python {facts['python']}")
        files = _files(opened, sent, Path(scratch))
        _check_room(connection, files)
        wheel = write_wheel(Path(scratch), __version__)
        texts = isinstance(opened.manifest.preprocess, TextPreprocess)
        prepare(connection, wheel, needs_of(sent, wheel, texts=texts), wheels, progress)
        copy(connection, files, "the bundle", progress)
        measured = _measured(connection, options, progress)
    return _completed(measured, device.name, sent, left_out)


def _files(bundle: Bundle, builds: tuple[Build, ...], scratch: Path) -> dict[str, Path]:
    """Place in the workplace to file: the builds', those that measuring and checking read, and a manifest of them."""
    manifest = bundle.manifest
    spec, generation = manifest.preprocess, manifest.generation
    names = {GOLDEN, *([spec.tokenizer] if isinstance(spec, TextPreprocess) else [])}
    names |= {generation.tokenizer} if generation is not None else set()
    beside = tuple(file for file in manifest.files if file.path in names)
    write_manifest(scratch, msgspec.structs.replace(manifest, builds=builds, files=beside, evaluation=None))
    listed = (*(file for build in builds for file in build.files), *beside)
    files = {f"{BUNDLE}/{file.path}": inside(bundle.root, file.path) for file in listed}
    return {**files, f"{BUNDLE}/{MANIFEST}": scratch / MANIFEST}


def _check_room(connection: Connection, files: dict[str, Path]) -> None:
    """Said before an hour of copying, not after it."""
    needed, free = sum(path.stat().st_size for path in files.values()), connection.facts["free"]
    if needed > free:
        raise OutputError(
            f"expected {needed >> 20} MB free on {connection.name} for the bundle, found {free >> 20} MB in "
            f"{connection.facts['work']!r}; free some space there, or choose builds with --target"
        )


def _measured(connection: Connection, options: BenchOptions, progress: Progress) -> Measured:
    result: list[Measured | Failed] = []
    with progress.task(f"measuring on {connection.name}", None) as advance:

        def take(line: str) -> None:
            told = msgspec.json.decode(line, type=Told)
            if isinstance(told, Step):
                advance(told.done, told.detail, told.total)
            else:
                result.append(told)

        arguments = ["-P", "-m", "edgevit.pipeline.bench_there"]
        given = msgspec.json.encode(options).decode()
        try:
            ended = connection.ask({"do": "run", "arguments": arguments, "input": given}, "measuring", take)
        except RefusalError as refusal:
            raise explained(connection, refusal) from refusal
    if not result:
        raise MeasureError(
            f"the measurement on {connection.name} ended with status {ended['status']} and without a report: "
            f"{one_line(ended['errors']) or 'it says nothing'}"
        )
    found = result[-1]
    if isinstance(found, Failed):
        raise _BY_STATUS.get(found.status, MeasureError)(f"on {connection.name}: {found.text}")
    return found


def _completed(measured: Measured, name: str, sent: tuple[Build, ...], left_out: dict[str, str]) -> BenchReport:
    """The report with what only this side knows, and what the device's own checks and versions say about it."""
    report = measured.report
    warnings = [f"{build}: its outputs are wrong on {name}: {reason}" for build, reason in measured.wrong.items()]
    for package, made in {RUNTIMES[build.target]: build.engine.version for build in sent}.items():
        found = report.machine.packages.get(package, made)
        if found != made:
            warnings.append(
                f"{package} {found} was measured; {made}, which the builds were made with, is not to be had there"
            )
    return msgspec.structs.replace(
        report,
        device=name,
        not_executed={**left_out, **report.not_executed},
        warnings=(*report.warnings, *warnings),
    )
