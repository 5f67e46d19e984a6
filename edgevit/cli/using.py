"""What one does with a bundle that is there: run, verify, finish, look into; and `edgevit doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit.cli.application import app, command, complain
from edgevit.cli.options import BundlePath, Debug, Json, OneTarget

if TYPE_CHECKING:
    from edgevit.terminal import Terminal


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
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Compile an engine of another card or version again, from its ONNX.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run INPUT... through the best build of BUNDLE that runs here."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import Changes
        from edgevit.pipeline import run as predict

        items = lines(inputs)
        names = [item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item for item in items]
        changes = Changes(beams=beams, max_length=max_length)
        terminal.predictions(names, predict(bundle, items, target, top, changes, rebuild))
        return 0

    command(work, json, debug)


@app.command(epilog="Example: `edgevit verify out && ./deploy`, on the machine that made it or on the device")
def verify(bundle: BundlePath, json: Json = False, debug: Debug = False) -> None:
    """Check BUNDLE's files, then replay the golden inputs through every build that runs here."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import verify as check

        result = check(bundle)
        terminal.verification(result)
        if result.passed and not result.executed:
            complain("expected a build that runs on this machine, found none; its files are intact")
        return 1 if not result.passed else 0 if result.executed else 3

    command(work, json, debug)


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

    command(work, json, debug)


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

    command(work, json, debug)


@app.command(epilog="Example: `edgevit doctor --json | jq '.targets[] | select(.run | not) | .fix'`")
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show what each target can do on this machine, and the command that would change a no."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import doctor as diagnose

        terminal.diagnosis(diagnose())
        return 0

    command(work, json, debug)


def lines(inputs: list[str]) -> list[str | bytes]:
    """The inputs, with the lines of standard input, as bytes, in place of `-`; empty lines at its end are none."""
    items: list[str | bytes] = []
    for item in inputs:
        items += sys.stdin.buffer.read().rstrip().splitlines() if item == "-" else [item]
    return items
