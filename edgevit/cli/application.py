"""The command `edgevit` itself: its help, its exit status, and how an error becomes one line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from edgevit.errors import EdgevitError

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
            complain(f"{text[:1].lower()}{text[1:].rstrip('.')}; see {path} --help", path)
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


def command(work: Callable[[Terminal], int], json: bool, debug: bool, when_interrupted: str = "") -> None:
    """Runs a command and raises its exit status; an error is one line on standard error."""
    from edgevit.terminal import Terminal, kept_for_results, terminal_progress

    try:
        with kept_for_results() as out:
            status = work(Terminal(out, terminal_progress(), json=json))
            out.flush()
    except EdgevitError as error:
        if debug:
            raise
        complain(str(error))
        status = error.exit_status
    except KeyboardInterrupt:
        complain("; ".join(filter(None, ("interrupted", when_interrupted))))
        status = 130
    except BrokenPipeError:
        _let_go_of_closed_pipes()
        status = 141
    except Exception as error:  # The last place that can turn a defect into a line.
        if debug:
            raise
        complain(f"a defect of edgevit or of an engine: {type(error).__name__}: {error}; --debug shows where")
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


def complain(text: str, who: str = "edgevit") -> None:
    typer.echo(f"{who}: {' '.join(text.split())}", err=True)
