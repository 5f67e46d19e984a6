"""`edgevit bench BUNDLE --adb --runner FILE`: builds measured on a phone by their vendor's own benchmark program.

For a phone without a Python. The program fills the inputs itself and compares no output, so that the rows say who
measured them and the report that no parity was executed there.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from edgevit.bundle import open_bundle
from edgevit.devices import PLACE, AdbDevice, Runner, find_runner, one_line
from edgevit.errors import InputError, MeasureError, UnavailableError
from edgevit.measure import BenchOptions
from edgevit.measure.bench import select, subjects_of
from edgevit.measure.options import check
from edgevit.progress import Progress, Silent
from edgevit.types import BenchEntry, BenchReport, Machine

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.bundle import Bundle
    from edgevit.types import Build

_SHORT = 60.0
"""Seconds for a command there that does nothing long."""
_FACTS = (
    'echo "$(uname -m)|$(nproc)|$(grep MemTotal /proc/meminfo)|'
    '$(getprop ro.product.model 2>/dev/null)|$(getprop ro.build.version.release 2>/dev/null)"'
)
_NOT_EXECUTABLE = (126, 127)


class _There(msgspec.Struct, frozen=True, kw_only=True):
    """A program that lies in a folder of a device."""

    device: AdbDevice
    folder: str
    program: str
    runner: Runner


def bench_with_runner(
    bundle: str | Path,
    device: AdbDevice,
    program: Path,
    options: BenchOptions | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Times of the bundle's builds that `program` runs on `device`, at batch 1; nothing of it stays there.

    Raises InputError for a program that is not known and another batch, UnavailableError where none of the builds is
    for it, it cannot run there or the device is gone, OutputError where the device is full, MeasureError where it gives
    no times for any build.
    """
    options, progress = options or BenchOptions(), progress or Silent()
    check(options)
    runner = find_runner(program)
    if options.batch_sizes != (1,):
        raise InputError(f"expected batch 1, which {runner.name} measures, found {options.batch_sizes}; leave it out")
    opened = open_bundle(bundle, check="hashes")
    wanted = {subject.name for subject in select(subjects_of(opened), options.targets)}
    builds = [build for build in opened.manifest.builds if build.name in wanted]
    reasons = {build.name: runner.why_not(build) for build in builds if runner.why_not(build)}
    sent = [build for build in builds if build.name not in reasons]
    if not sent:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"expected a build that {runner.name} runs, found none ({listed})")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    machine = _machine(device)
    threads = options.threads or (machine.cores,)
    there = _There(device=device, folder=f"{PLACE}/edgevit-{secrets.token_hex(4)}", program=program.name, runner=runner)
    entries: list[BenchEntry] = []
    try:
        _prepare(there, program)
        with progress.task(f"measuring on {device.name}", len(sent) * len(threads)) as advance:
            for build in sent:
                advance(len(entries), build.name)
                try:
                    entries += _measured(opened, build, there, threads, options)
                except MeasureError as error:
                    reasons[build.name] = str(error)
    finally:
        device.run(f"rm -rf {there.folder}", _SHORT)
    if not entries:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise MeasureError(f"expected times from {runner.name} on {device.name}, found none ({listed})")
    return BenchReport(
        model=opened.manifest.model,
        machine=machine,
        device=device.name,
        seconds=options.seconds,
        rounds=1,
        entries=tuple(entries),
        not_executed=reasons,
        started=started,
        warnings=(f"{runner.name} measured, and compares no outputs: no parity was executed there; {runner.about}",),
    )


def _machine(device: AdbDevice) -> Machine:
    _, said = device.run(_FACTS, _SHORT)
    parts = said.strip().split("|")
    if len(parts) != 5 or not parts[1].isdecimal():
        raise MeasureError(
            f"expected {device.name} to say what it is, found: {one_line(said)}; try: adb shell uname -m"
        )
    architecture, cores, memory, model, release = parts
    kilobytes = [word for word in memory.split() if word.isdecimal()]
    return Machine(
        cpu=model or "unknown",
        architecture=architecture,
        cores=int(cores),
        memory_bytes=int(kilobytes[0]) << 10 if kilobytes else 0,
        instruction_sets=(),
        os=f"Android {release}" if release else "unknown",
        python="none",
    )


def _prepare(there: _There, program: Path) -> None:
    device = there.device
    status, said = device.run(f"mkdir {there.folder}", _SHORT)
    if status:
        raise UnavailableError(f"expected to write in {PLACE} of {device.name}, found: {one_line(said)}")
    device.push(program, f"{there.folder}/{there.program}")
    device.run(f'chmod 755 "{there.folder}/{there.program}"', _SHORT)


def _measured(
    bundle: Bundle, build: Build, there: _There, threads: tuple[int, ...], options: BenchOptions
) -> list[BenchEntry]:
    """One row for each number of threads."""
    device, runner = there.device, there.runner
    file = runner.models[build.target]
    device.push(bundle.directory(build) / file, f"{there.folder}/{file}")
    entries = []
    for count in threads:
        words = runner.command(f"./{there.program}", file, count, options.seconds)
        # What still runs when adb is gone ends by itself.
        limit = round(options.timeout)
        script = f"cd {there.folder} && timeout {limit} " + " ".join(f'"{word}"' for word in words)
        status, output = device.run(script, options.timeout + _SHORT)
        if status in _NOT_EXECUTABLE:
            raise UnavailableError(
                f"expected {there.program} to run on {device.name}, found: {one_line(output, 160) or status}; build it "
                "for that processor and Android"
            )
        if status:
            raise MeasureError(f"{runner.name} ended with status {status}: {one_line(output, 160)}")
        entries.append(_entry(build, runner, output, count))
    device.run(f"rm -f {there.folder}/{file}", _SHORT)
    return entries


def _entry(build: Build, runner: Runner, output: str, threads: int) -> BenchEntry:
    times = runner.times(output)
    return BenchEntry(
        target=build.target,
        precision=build.precision,
        batch_size=1,
        threads=threads,
        latency=times.latency,
        throughput=1e3 / times.latency.mean,
        streams=1,
        peak_memory_bytes=times.peak_memory_bytes,
        size_bytes=sum(file.size for file in build.files),
        executed_precision="",
        runner=runner.name,
    )
