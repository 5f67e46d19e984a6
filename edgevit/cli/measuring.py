"""`edgevit bench` and `edgevit parity`: how fast and how close a bundle's builds are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit.cli.application import app, command
from edgevit.cli.options import (
    BundlePath,
    Cluster,
    Debug,
    Jobs,
    Json,
    OptionalValue,
    SetOption,
    Targets,
    TheseBuilds,
    sides,
)
from edgevit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.devices import Transport
    from edgevit.measure import BenchOptions
    from edgevit.terminal import Terminal
    from edgevit.types import BenchReport


@app.command(
    cls=OptionalValue,
    epilog="Examples: `edgevit bench out --batch-size 1 --batch-size 8 --json > old.json`, later `--compare old.json`; "
    "of a translator `edgevit bench out --tokens 64 --beams 1 --beams 4 --without-cache`; "
    "on a board `edgevit bench out --ssh pi@kitchen`, on a phone `edgevit bench out --adb --python "
    "/data/local/tmp/python/bin/python3`",
)
def bench(
    bundle: BundlePath,
    target: Targets = None,
    batch_size: Annotated[list[int] | None, typer.Option(metavar="N", help="Repeatable.")] = None,
    threads: Annotated[
        list[str] | None, typer.Option(metavar="N,…", help="Compute threads: 1,2,4 measures with each; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Measuring time per build and setting.")] = 3.0,
    rounds: Annotated[int, typer.Option(metavar="N", help="The builds take turns this often.")] = 10,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="H[xW]", help="Builds with the preprocessing inside: size of the images. 480x640."),
    ] = None,
    source_length: Annotated[int | None, typer.Option(metavar="N", help="Texts: tokens of each text. 16.")] = None,
    tokens: Annotated[int | None, typer.Option(metavar="N", help="Translations: tokens written for each. 32.")] = None,
    beams: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Translations: beams of a search; repeatable. 1 and 4.")
    ] = None,
    without_cache: Annotated[
        bool, typer.Option("--without-cache", help="Translations: also by reading all tokens again for each.")
    ] = False,
    cold_starts: Annotated[int, typer.Option(metavar="N", help="Process starts per build; 0 for none.")] = 3,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="An earlier --json; says what became slower or faster.")
    ] = None,
    ssh: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER@HOST", help="Measure there: needs ssh here, Python 3.11 there. Keys, ports: ssh's own."
        ),
    ] = None,
    ssh_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="As ssh's -o: Port=2222; repeatable.")
    ] = None,
    adb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SERIAL]", help="Measure on that Android device, or the only one: needs adb here, Python there."
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="With --ssh or --adb: the Python to use there.")
    ] = None,
    runner: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --adb, without a Python there: benchmark_model, onnxruntime_perf_test or executor_runner, built "
            "for the device; it gives times, and no parity.",
        ),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --ssh or --adb: install there from this folder's wheels; what it lacks is downloaded here.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, throughput, cold start and memory of BUNDLE's builds, interleaved, each in its own process."""

    def work(terminal: Terminal) -> int:
        from edgevit.measure import BenchOptions, compare_reports
        from edgevit.pipeline import bench as measure
        from edgevit.pipeline import bench_on, read_bench

        old = None if compare is None else read_bench(compare)
        options = BenchOptions(
            targets=tuple(target or ()),
            batch_sizes=tuple(batch_size or (1,)),
            threads=counts(threads or (), "--threads"),
            seconds=seconds,
            rounds=rounds,
            cold_starts=cold_starts,
            image_size=sides(image_size),
            source_length=source_length,
            tokens=tokens,
            beams=tuple(beams or ()),
            without_cache=without_cache,
        )
        device = _device(ssh or (), adb or (), python, tuple(ssh_option or ()), wheels)
        if runner is not None:
            report = _with_runner(bundle, device, runner, options, terminal)
        elif device is None:
            report = measure(bundle, options, terminal.progress)
        else:
            report = bench_on(bundle, device, options, terminal.progress, wheels=wheels)
        terminal.bench(report, None if old is None else compare_reports(old, report))
        return 0

    left = f"nothing is left on {ssh[0]} but its virtual environments" if ssh else ""
    command(work, json, debug, "nothing is left on the device" if adb else left)


def _with_runner(
    bundle: Path, device: Transport | None, runner: Path, options: BenchOptions, terminal: Terminal
) -> BenchReport:
    from edgevit.devices import AdbDevice
    from edgevit.pipeline import bench_with_runner

    if not isinstance(device, AdbDevice):
        raise InputError("expected --adb beside --runner, found none; say where to measure")
    return bench_with_runner(bundle, device, runner, options, terminal.progress)


def counts(given: Sequence[str], option: str) -> tuple[int, ...]:
    """Numbers given one by one or with commas between them, each once."""
    texts = [text.strip() for one in given for text in one.split(",")]
    for text in texts:
        if not (text.isascii() and text.isdecimal()):
            raise InputError(f"expected {option} as N or N,N,…, found {text!r}; correct the option")
    return tuple(dict.fromkeys(map(int, texts)))


def _device(
    ssh: Sequence[str], adb: Sequence[str], python: str | None, options: tuple[str, ...], wheels: Path | None
) -> Transport | None:
    """The one device that was named, if any."""
    from edgevit.devices import SshHost, adb_device

    named = [*(f"--ssh {host}" for host in ssh), *(f"--adb {serial}".strip() for serial in adb)]
    if len(named) > 1 or any("," in name for name in named):
        raise InputError(f"expected one device to measure on, found {', '.join(named)}; run the command once for each")
    for option, value, needed in (
        ("--ssh-option", options, ssh),
        ("--wheels", wheels, named),
        ("--python", python, named),
    ):
        if value and not needed:
            where = "--ssh USER@HOST" if needed is ssh else "--ssh USER@HOST or --adb"
            raise InputError(f"expected {where} beside {option}, found none; say where to measure")
    if ssh:
        return SshHost(destination=ssh[0], options=options, python=python or "")
    return adb_device(adb[0], python or "") if adb else None


@app.command(
    epilog="Examples: `edgevit parity out --evaluation val/ --target openvino:int8`; a large set by four processes, "
    "`--jobs 4`, or by a cluster, `--cluster dask://head:8786`: the report is the same"
)
def parity(
    bundle: BundlePath,
    evaluation: SetOption = None,
    target: TheseBuilds = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare BUNDLE's builds with the float reference on evaluation samples."""

    def work(terminal: Terminal) -> int:
        from edgevit.cluster import workers_of
        from edgevit.pipeline import parity as compare_builds

        report = compare_builds(bundle, evaluation, target, terminal.progress, workers_of(jobs, cluster))
        terminal.parity(report)
        verdicts = {rung.verdict for rung in report.rungs}
        return 1 if "failed" in verdicts else 3 if verdicts == {"not executed"} else 0

    command(work, json, debug)
