"""The two streams of a command: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kept_for_results() -> Iterator[TextIO]:
    """Standard output for the result alone: what anything else prints there meanwhile goes to standard error.

    A user's factory may print, and so may the C++ of an engine: the file descriptor is moved, not only `sys.stdout`.
    """
    with _silent_if_closed() as (out, err):
        out.flush()
        try:
            number, elsewhere = out.fileno(), err.fileno()
        except OSError:  # both are objects in memory, as in a notebook
            with redirect_stdout(err):
                yield out
            return
        with os.fdopen(os.dup(number), "w", encoding=out.encoding, errors=out.errors) as kept:
            os.dup2(elsewhere, number)
            try:
                yield kept
            finally:
                out.flush()
                os.dup2(kept.fileno(), number)


@contextmanager
def _silent_if_closed() -> Iterator[tuple[TextIO, TextIO]]:
    """Standard output and standard error; `edgevit … >&-` has none."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device, not a path
        yield sys.stdout or nowhere, sys.stderr or nowhere
