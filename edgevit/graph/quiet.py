"""Keeps torch's own messages off the terminal while it traces and lowers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """No progress, no warnings about other packages, no half-finished graph of a failed trace.

    What goes wrong arrives as an exception, and becomes one line of ours.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # torch gives some of its loggers levels of their own
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
