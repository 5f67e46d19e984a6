"""Run on a device, in its virtual environment: measures the bundle beside it and tells, line by line, how it goes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import EdgevitError
from edgevit.measure import BenchOptions
from edgevit.pipeline.commands import bench, verify
from edgevit.types import BenchReport, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevit.progress import Advance

BUNDLE = "bundle"
"""The bundle's place in the current directory."""


class Step(Value, frozen=True, kw_only=True, tag="step"):
    done: int
    detail: str
    total: int | None


class Failed(Value, frozen=True, kw_only=True, tag="failed"):
    """`status` is the exit status that the error means."""

    text: str
    status: int


class Measured(Value, frozen=True, kw_only=True, tag="measured"):
    report: BenchReport
    wrong: dict[str, str]
    """Build to what its golden inputs gave, for those whose outputs are not right there."""


Told = Step | Failed | Measured


class _Telling:
    """Progress as lines for the other side."""

    def __init__(self, say: Callable[[Told], None]) -> None:
        self._say = say

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        def advance(done: int, detail: str = "", total: int | None = None) -> None:
            self._say(Step(done=done, detail=detail, total=total))

        yield advance


def main() -> int:
    """Options as JSON on standard input; on standard output one `Told` a line, the last one a result."""
    # Engines print to file descriptor 1: the lines get a descriptor of their own.
    with os.fdopen(os.dup(1), "wb") as lines:
        os.dup2(2, 1)

        def say(told: Told) -> None:
            lines.write(msgspec.json.encode(told) + b"\n")
            lines.flush()

        options = msgspec.json.decode(sys.stdin.buffer.read(), type=BenchOptions)
        try:
            checks: Any = verify(BUNDLE).builds
            report = bench(BUNDLE, options, _Telling(say))
        except EdgevitError as error:
            say(Failed(text=str(error), status=error.exit_status))
            return 0
        measured = {entry.name for entry in report.entries}
        wrong = {one.build: one.reason for one in checks if one.verdict == "failed" and one.build in measured}
        say(Measured(report=report, wrong=wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
