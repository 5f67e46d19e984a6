"""Progress on standard error: a bar that goes away and a line that stays; only the line where nobody watches."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgevit.report.formats import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import ProgressColumn

    from edgevit.progress import Advance, Progress


def terminal_progress() -> Progress:
    """Bars for a person at a terminal, plain lines for a log."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bars(console)
    return Lines()


class Lines:
    """One line per finished task, without escape sequences."""

    def note(self, text: str) -> None:
        import sys

        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        begun = time.perf_counter()
        yield lambda done, detail="", total=None: None
        self.note(f"{name}: {duration(time.perf_counter() - begun)}")


class Bars:
    """One bar with the time left while a task runs, and the same line as in a log when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        from rich.progress import Progress
        from rich.text import Text

        begun = time.perf_counter()
        with Progress(*_columns(), console=self._console, transient=True) as progress:
            shown = progress.add_task(name, total=total, detail="")

            def advance(done: int, detail: str = "", total: int | None = None) -> None:
                progress.update(shown, completed=done, detail=detail, total=total)  # None leaves it as it is

            yield advance
        took = duration(time.perf_counter() - begun)
        self._console.print(Text.assemble(("✓ ", "green"), name, (f"  {took}", "dim")), soft_wrap=True)


def _columns() -> tuple[ProgressColumn, ...]:
    """What a bar's line shows; the detail gives way where the terminal is narrow."""
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    class Share(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")

    class Left(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Any) -> Text:
            left = task.time_remaining
            if not left:
                return Text("")
            return Text(f"{left:.0f} s left" if left < 120 else f"{duration(left)} left", style="cyan")

    return (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        Share(),
        TimeElapsedColumn(),
        Left(),
        TextColumn(
            "{task.fields[detail]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
