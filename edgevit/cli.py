"""The command line: parses and prints, holds no logic.

Exit status: 0 done and within budget; 1 a build is out of its parity budget or fails verification; 2 bad input or
usage; 3 the target is not available on this machine; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from edgevit.errors import EdgevitError, InputError
from edgevit.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.terminal import Terminal

app = typer.Typer(
    name="edgevit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "Takes a trained Transformer or Vision Transformer checkpoint and produces small, fast, *proven* builds of it."
        "\n\nStart with: `edgevit export zoo:digits-vit out --target openvino:int8`"
        "\n\nExit status: 0 within budget, 1 out of budget or damaged, 2 bad input, 3 target not available here."
    ),
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A directory that `edgevit export` wrote.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", metavar="T[:PRECISION]", help="openvino:int8, onnxruntime:float32, …; repeatable."),
]
OneTarget = Annotated[
    str | None, typer.Option("--target", "-t", metavar="T[:PRECISION]", help="Use this build instead of the best one.")
]
SetOption = Annotated[
    str | None,
    typer.Option(metavar="SET", help="A TOML of calibration/, a folder of images (class folders give labels), zoo:…"),
]


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="zoo:NAME, timm:ARCH, package.module:factory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the bundle goes; must not exist without --force.")],
    target: Targets = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe of export/; options given here win over it.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="The checkpoint file of timm: and factories.")] = None,
    calibration: SetOption = None,
    evaluation: SetOption = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use this quantization plan; nothing is calibrated.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Calibration samples, at most.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the calibration samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="A fixed batch instead of a dynamic one.")] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="H[xW]", help="Another resolution; position embeddings are interpolated.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Layers that stay float: 'head.*'; repeatable.")
    ] = None,
    cpu: Annotated[
        str | None, typer.Option(metavar="auto|any|vnni", help="Which x86-64 processors int8 must be right on.")
    ] = None,
    budget: Annotated[float | None, typer.Option(metavar="POINTS", help="Accuracy a build may lose.")] = None,
    bench: Annotated[bool | None, typer.Option("--bench/--no-bench", help="Measure the builds, or not.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle when the new one is complete.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Export MODEL to a bundle OUT: trace, calibrate, quantize, build, prove, measure."""
    terminal = _terminal(json)
    _guard(
        lambda: _export(
            terminal,
            _overridden(
                read_recipe(recipe) if recipe else Recipe(model=model),
                {
                    "model": model,
                    "weights": _text(weights),
                    "targets": tuple(target) if target else None,
                    "when_available": () if target else None,
                    "calibration.set": calibration,
                    "calibration.samples": samples,
                    "calibration.seed": seed,
                    "evaluation.set": evaluation,
                    "trace.batch": batch_size,
                    "trace.image_size": _size(image_size),
                    "plan.file": _text(plan),
                    "plan.skip": tuple(skip) if skip else None,
                    "plan.cpu": cpu,
                    "parity.budget": budget,
                    "bench.enabled": bench,
                },
            ),
            out,
            force,
        ),
        debug,
    )


@app.command()
def bench(
    bundle: BundlePath,
    target: Targets = None,
    batch_size: Annotated[list[int] | None, typer.Option(metavar="N", help="Repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(metavar="N", help="Compute threads; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Measuring time per build and setting.")] = 3.0,
    rounds: Annotated[int, typer.Option(metavar="N", help="The builds take turns this often.")] = 10,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="An earlier --json; says what became slower or faster.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, throughput, cold start and memory of BUNDLE's builds, interleaved, each in its own process."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.measure import BenchOptions
        from edgevit.pipeline import bench as measure

        old = None if compare is None else _old_report(compare)
        options = BenchOptions(
            targets=tuple(target or ()),
            batch_sizes=tuple(batch_size or (1,)),
            threads=tuple(threads or ()),
            seconds=seconds,
            rounds=rounds,
        )
        return terminal.bench(measure(bundle, options, terminal.progress), old)

    _guard(work, debug)


@app.command()
def parity(
    bundle: BundlePath,
    evaluation: SetOption = None,
    target: OneTarget = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare BUNDLE's builds with the float reference on evaluation samples."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.pipeline import parity as compare_builds

        return terminal.parity(compare_builds(bundle, evaluation, target, terminal.progress))

    _guard(work, debug)


@app.command()
def run(
    bundle: BundlePath,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files.")],
    target: OneTarget = None,
    top: Annotated[int, typer.Option(metavar="N", help="How many labels per input.")] = 3,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run INPUT... through the best build of BUNDLE that runs here."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.pipeline import run as predict

        return terminal.predictions([str(item) for item in inputs], predict(bundle, inputs, target, top))

    _guard(work, debug)


@app.command()
def verify(bundle: BundlePath, json: Json = False, debug: Debug = False) -> None:
    """Check BUNDLE's files, then replay the golden inputs through every build that runs here."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.pipeline import verify as check

        return terminal.verification(check(bundle))

    _guard(work, debug)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle, a plan.toml or an .onnx file.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what PATH holds, for people."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.pipeline import inspect as look

        return terminal.inspection(look(path))

    _guard(work, debug)


@app.command()
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show what each target can do on this machine, and the command that would change a no."""
    terminal = _terminal(json)

    def work() -> int:
        from edgevit.pipeline import doctor as diagnose

        return terminal.diagnosis(diagnose())

    _guard(work, debug)


def main() -> NoReturn:
    """The entry point of the command `edgevit`."""
    try:
        app(prog_name="edgevit")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _version(show: bool) -> None:
    if show:
        from edgevit import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def _terminal(json: bool) -> Terminal:
    from edgevit.terminal import Terminal

    return Terminal(json=json)


def _guard(work: Callable[[], int], debug: bool) -> None:
    """Runs a command; a deliberate error is one line on standard error and its exit status."""
    try:
        status = work()
    except EdgevitError as error:
        if debug:
            raise
        typer.echo(f"edgevit: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(error.exit_status) from error
    except KeyboardInterrupt:
        typer.echo("edgevit: interrupted; finished stages are kept, run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    if status:
        raise typer.Exit(status)


def _export(terminal: Terminal, recipe: Recipe, out: Path, force: bool) -> int:
    from edgevit.pipeline import ExportOptions
    from edgevit.pipeline import export as make

    command = " ".join(["edgevit", *sys.argv[1:]])
    return terminal.exported(make(recipe, out, ExportOptions(force=force, command=command), terminal.progress))


def _overridden(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with what the command line gives; None leaves a key as it is."""
    values = msgspec.to_builtins(recipe)
    for key, value in changes.items():
        if value is None:
            continue
        section, _, name = key.rpartition(".")
        (values[section] if section else values)[name] = value
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise InputError(f"an option has a value it cannot have: {error}") from error


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not height.isdigit() or not (width or height).isdigit():
        raise InputError(f"expected --image-size as H or HxW in pixels, found {text!r}")
    return int(height), int(width or height)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _old_report(path: Path) -> Any:
    from edgevit.types import BenchReport

    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchReport)
    except OSError as error:
        raise InputError(f"expected an earlier report at {path}, which cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InputError(f"expected the --json output of an earlier edgevit bench at {path}, found: {error}") from error
