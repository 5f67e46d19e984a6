"""Work on several threads, in order and within bounds."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_threads(most: int) -> int:
    """As many threads as this process has cores to run them on, at most `most`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products stay on the thread that asks for them, for work that has a thread per core already.

    OpenBLAS gives its threads to one caller at a time and lets the others wait: planning a ViT-B on two cores took
    5 s of 24 longer. Of the whole process, while the block runs.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Iterator[Result]:
    """`map(function, items)` on `workers` threads, in order, with at most `ahead` results not yet taken.

    With 0 workers the caller's thread does the work. An exception appears at its item's place, and closing the
    iterator early cancels what has not begun.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
