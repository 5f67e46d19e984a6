"""The command line: parses and prints, holds no logic.

Exit status: 0 done and within budget; 1 a build is out of its parity budget or fails verification; 2 bad input or
usage; 3 the target is not available on this machine; 130 interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from edgevit.errors import EdgevitError, InputError
from edgevit.recipe import Recipe, explained, read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevit.terminal import Terminal

app = typer.Typer(
    name="edgevit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Takes a trained Transformer or Vision Transformer checkpoint and produces small, fast, *proven* builds of it."
        "\n\nStart with: `edgevit export zoo:digits-vit out --target openvino:int8` (images) or "
        "`edgevit export zoo:phrases-transformer out --target openvino:int8` (translation)"
    ),
    epilog="Exit status: 0 within budget, 1 out of budget or damaged, 2 bad input, 3 target not available here.",
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
TheseBuilds = Annotated[
    str | None, typer.Option("--target", "-t", metavar="T[:PRECISION]", help="Only these builds; all without it.")
]
SetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help="A TOML of calibration/, a folder of images (class folders give labels), texts as .jsonl, .csv or .txt "
        "(columns text and label, tags or target), zoo:…",
    ),
]
TASKS = (
    "image-classification",
    "image-features",
    "text-classification",
    "token-classification",
    "translation",
)
MODEL_FORMS = "zoo:NAME, a Hugging Face directory, timm:ARCH, a .pt2 or .onnx file, package.module:factory."
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="The checkpoint file of timm: and factories.")]


@app.command(
    epilog=(
        "Examples: `edgevit export zoo:digits-vit out -t openvino:float32 -t openvino:int8`, or with everything "
        "written down in a recipe: `edgevit export zoo:digits-vit out --recipe export/digits-vit.toml`"
    )
)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_FORMS)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the bundle goes; must not exist without --force.")],
    target: Targets = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe of export/; options given here win over it.")
    ] = None,
    weights: Weights = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help=f"If MODEL cannot tell: {', '.join(TASKS)}.")] = None,
    preprocess: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A preprocessor_config.json, or a TOML with size, mean and std.")
    ] = None,
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
    gpu: Annotated[str | None, typer.Option(metavar="SM,…", help="Cards of tensorrt-rtx builds: sm86,sm89.")] = None,
    min_delegated: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Least share of an executorch build's multiply-accumulates in XNNPACK."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="8MB: build every precision of the targets and name the best one that fits."),
    ] = None,
    budget: Annotated[float | None, typer.Option(metavar="POINTS", help="Accuracy a build may lose.")] = None,
    bench: Annotated[bool | None, typer.Option("--bench/--no-bench", help="Measure the builds, or not.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing bundle when the new one is complete.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Export MODEL to a bundle OUT: trace, calibrate, quantize, build, prove, measure."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import ExportOptions
        from edgevit.pipeline import export as make
        from edgevit.pipeline.finishing import with_cards, with_option
        from edgevit.pipeline.size_budget import choose, parse_size, with_every_precision

        wanted = _overridden(
            read_recipe(recipe) if recipe else Recipe(model=model),
            {
                "model": model,
                "weights": _text(weights),
                "task": task,
                "preprocess": _preprocess(preprocess),
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
        )
        wanted = wanted if gpu is None else with_cards(wanted, gpu)
        if min_delegated is not None:
            wanted = with_option(wanted, "executorch", "min_delegated", f"{min_delegated:g}")
        limit = None
        if max_size is not None:
            limit, wanted = parse_size(max_size), with_every_precision(wanted)
        options = ExportOptions(force=force, command=shlex.join(["edgevit", *sys.argv[1:]]))
        result = make(wanted, out, options, terminal.progress)
        if limit is not None:
            result = msgspec.structs.replace(result, choice=choose(result.manifest, limit))
        terminal.exported(result)
        for name in result.failed:
            _complain(f"{name} is out of its parity budget; see {result.path / 'report.html'}")
        if result.choice is None:
            return 1 if result.failed else 0
        if not result.choice.build:
            _complain(result.choice.reason)
        return 0 if result.choice.build else 1

    _command(work, json, debug, "finished stages are kept, run the same command again to resume")


@app.command(
    epilog="Examples: `edgevit bench out --batch-size 1 --batch-size 8 --json > old.json`, later `--compare old.json`; "
    "of a translator `edgevit bench out --tokens 64 --beams 1 --beams 4 --without-cache`"
)
def bench(
    bundle: BundlePath,
    target: Targets = None,
    batch_size: Annotated[list[int] | None, typer.Option(metavar="N", help="Repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(metavar="N", help="Compute threads; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Measuring time per build and setting.")] = 3.0,
    rounds: Annotated[int, typer.Option(metavar="N", help="The builds take turns this often.")] = 10,
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
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, throughput, cold start and memory of BUNDLE's builds, interleaved, each in its own process."""

    def work(terminal: Terminal) -> int:
        from edgevit.measure import BenchOptions, compare_reports
        from edgevit.pipeline import bench as measure
        from edgevit.pipeline import read_bench

        old = None if compare is None else read_bench(compare)
        options = BenchOptions(
            targets=tuple(target or ()),
            batch_sizes=tuple(batch_size or (1,)),
            threads=tuple(threads or ()),
            seconds=seconds,
            rounds=rounds,
            cold_starts=cold_starts,
            source_length=source_length,
            tokens=tokens,
            beams=tuple(beams or ()),
            without_cache=without_cache,
        )
        report = measure(bundle, options, terminal.progress)
        terminal.bench(report, None if old is None else compare_reports(old, report))
        return 0

    _command(work, json, debug)


@app.command(epilog="Example: `edgevit parity out --evaluation val/ --target openvino:int8`")
def parity(
    bundle: BundlePath,
    evaluation: SetOption = None,
    target: TheseBuilds = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare BUNDLE's builds with the float reference on evaluation samples."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import parity as compare_builds

        report = compare_builds(bundle, evaluation, target, terminal.progress)
        terminal.parity(report)
        verdicts = {rung.verdict for rung in report.rungs}
        return 1 if "failed" in verdicts else 3 if verdicts == {"not executed"} else 0

    _command(work, json, debug)


@app.command(
    epilog='Examples: `edgevit run out photo.jpg other.png --top 1`, `edgevit run out "am Dienstag, dem 3. März"`, '
    "`edgevit run out - < phrases.txt`"
)
def run(
    bundle: BundlePath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Image files; texts for a model of texts, `-` for standard input's lines."
        ),
    ],
    target: OneTarget = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="How many labels per input.")] = 3,
    beams: Annotated[
        int | None, typer.Option(metavar="N", help="Translations: 1 for greedy search, more for beam search.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(metavar="N", help="Translations: tokens written, at most.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run INPUT... through the best build of BUNDLE that runs here."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import Changes
        from edgevit.pipeline import run as predict

        items = _lines(inputs)
        names = [item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item for item in items]
        terminal.predictions(names, predict(bundle, items, target, top, Changes(beams=beams, max_length=max_length)))
        return 0

    _command(work, json, debug)


@app.command(epilog="Example: `edgevit verify out && ./deploy`, on the machine that made it or on the device")
def verify(bundle: BundlePath, json: Json = False, debug: Debug = False) -> None:
    """Check BUNDLE's files, then replay the golden inputs through every build that runs here."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import verify as check

        result = check(bundle)
        terminal.verification(result)
        if result.passed and not result.executed:
            _complain("expected a build that runs on this machine, found none; its files are intact")
        return 1 if not result.passed else 0 if result.executed else 3

    _command(work, json, debug)


@app.command(epilog="Example: `edgevit build out`, on the Jetson or server that has TensorRT and the card")
def build(
    bundle: BundlePath,
    target: OneTarget = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was built before, for another card.")] = False,
    triton: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a model repository for Triton.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Finish BUNDLE's build kits on this device and check them, or write its builds as a Triton repository."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline.finishing import finish_or_serve

        result = finish_or_serve(bundle, target, again, triton, terminal.progress)
        terminal.built(result)
        return 0 if result.passed else 1

    _command(work, json, debug)


@app.command(epilog="Examples: `edgevit inspect out`, `edgevit inspect out/plan.toml`, `edgevit inspect model.onnx`")
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle, a plan.toml or an .onnx file.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what PATH holds, for people."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import inspect as look

        terminal.inspection(look(path))
        return 0

    _command(work, json, debug)


@app.command(epilog="Example: `edgevit doctor --json | jq '.targets[] | select(.run | not) | .fix'`")
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show what each target can do on this machine, and the command that would change a no."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import doctor as diagnose

        terminal.diagnosis(diagnose())
        return 0

    _command(work, json, debug)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the command `edgevit`: parses the command line, or `arguments`, and exits."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(arguments, prog_name="edgevit", standalone_mode=False)
    except _USAGE_ERROR as error:
        path = error.ctx.command_path if getattr(error, "ctx", None) else "edgevit"
        text = error.format_message()
        if text:  # without any argument the help has been printed instead
            _complain(f"{text[:1].lower()}{text[1:].rstrip('.')}; see {path} --help", path)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


_USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Click's, or that of the copy of click which newer versions of typer carry."""


def _version(show: bool) -> None:
    if show:
        from edgevit import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _command(work: Callable[[Terminal], int], json: bool, debug: bool, when_interrupted: str = "") -> None:
    """Runs a command and raises its exit status; an error is one line on standard error."""
    from edgevit.terminal import Terminal, kept_for_results, terminal_progress

    try:
        with kept_for_results() as out:
            status = work(Terminal(out, terminal_progress(), json=json))
            out.flush()
    except EdgevitError as error:
        if debug:
            raise
        _complain(str(error))
        status = error.exit_status
    except KeyboardInterrupt:
        _complain("; ".join(filter(None, ("interrupted", when_interrupted))))
        status = 130
    except BrokenPipeError:
        _let_go_of_closed_pipes()
        status = 141
    except Exception as error:  # The last place that can turn a defect into a line.
        if debug:
            raise
        _complain(f"a defect of edgevit or of an engine: {type(error).__name__}: {error}; --debug shows where")
        status = 1
    if status:
        raise typer.Exit(status)


def _let_go_of_closed_pipes() -> None:
    """The reader of a pipe has left; the interpreter would complain once more when it flushes at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complain(text: str, who: str = "edgevit") -> None:
    typer.echo(f"{who}: {' '.join(text.split())}", err=True)


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
        raise InputError(f"{explained(error)}; correct the option") from error


def _lines(inputs: list[str]) -> list[str | bytes]:
    """The inputs, with the lines of standard input, as bytes, in place of `-`; empty lines at its end are none."""
    items: list[str | bytes] = []
    for item in inputs:
        items += sys.stdin.buffer.read().rstrip().splitlines() if item == "-" else [item]
    return items


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, by, width = text.partition("x")
    if not height.isdecimal() or (by and not width.isdecimal()):
        raise InputError(f"expected --image-size as H or HxW in pixels, found {text!r}")
    return int(height), int(width or height)


def _preprocess(path: Path | None) -> Any:
    if path is None:
        return None
    from edgevit.sources.preprocessing import read_preprocess

    return msgspec.to_builtins(read_preprocess(path))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
