"""How long work tells the person at the terminal where it is; whoever shows it implements `Progress`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Advance(Protocol):
    """Says that `done` of the task's total are finished, and optionally what is being done now."""

    def __call__(self, done: int, detail: str = "") -> None: ...


class Progress(Protocol):
    def note(self, text: str) -> None:
        """One line that stays."""

    def task(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """A task of `total` steps (None: unknown) for as long as the context lasts."""


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        yield lambda done, detail="": None
