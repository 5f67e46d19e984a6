"""How long work tells the person at the terminal where it is; whoever shows it implements `Progress`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Advance(Protocol):
    """Says that `done` of the task's steps are finished, what is being done now, and how many there are in all."""

    def __call__(self, done: int, detail: str = "", total: int | None = None) -> None: ...


class Progress(Protocol):
    def note(self, text: str) -> None:
        """One line that stays."""

    def task(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """A task of `total` steps, for as long as the context lasts; None where only the work itself will tell."""


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        yield lambda done, detail="", total=None: None
