"""Several processes of this machine (joblib's loky), each on cores of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING, Self, TypeVar

from edgevit.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from edgevit.cluster.pool import Work

    Task = TypeVar("Task")
    Result = TypeVar("Result")

ATTEMPTS = 3
"""How often processes are started again after one of them was killed: as often as Dask gives a task another worker."""
_UNTRACKED = "ignore:resource_tracker"
"""What is interrupted is killed, and semaphores that torch or tqdm have left then are nobody's concern. Python starts
its tracker of them with the options for warnings that it has itself: there is no other way to say it."""


class Processes:
    """A pool of `slots` processes; a context manager.

    An engine starts as many threads as it sees cores, each by another setting: each process is therefore shown its own
    share of the cores, where the system can do that.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        self._threads = max(1, len(cores) // slots)
        self._shares = [
            list(cores[start : start + self._threads])
            for start in range(0, min(len(cores), slots * self._threads), self._threads)
        ]
        self._claims = tempfile.TemporaryDirectory(prefix="edgevit-")

    def __enter__(self) -> Self:
        sys.warnoptions.append(_UNTRACKED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from joblib.externals.loky import get_reusable_executor

        # joblib keeps its processes for the next call, which they would begin with these cores.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        self._claims.cleanup()
        sys.warnoptions.remove(_UNTRACKED)

    def each(
        self, work: Work[Task, Result], tasks: Sequence[Task], finished: Callable[[int, Result], None]
    ) -> list[Result]:
        """As `Pool.each`. A killed process takes the others' tasks with it: what has not come back is begun again."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        results: dict[int, Result] = {}
        for _ in range(ATTEMPTS):
            left = [(place, task) for place, task in enumerate(tasks) if place not in results]
            try:
                for place, result in self._run(work, left):
                    results[place] = result
                    finished(place, result)
            except BrokenProcessPool as error:
                lost = error
                continue
            return [results[place] for place in range(len(tasks))]
        raise UnavailableError(
            f"expected {self.slots} processes to finish {len(tasks)} tasks, found one killed {ATTEMPTS} times, with "
            f"{len(tasks) - len(results)} left; most often memory has run out: give --jobs {max(1, self.slots // 2)}"
        ) from lost

    def _run(self, work: Work[Task, Result], left: Sequence[tuple[int, Task]]) -> Sequence[tuple[int, Result]]:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("loky", n_jobs=self.slots, inner_max_num_threads=self._threads):
            run = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=self.slots)
            share = (self._claims.name, self._shares, self._threads)
            results: Sequence[tuple[int, Result]] = run(
                delayed(_numbered)(work, place, task, share) for place, task in left
            )
        return results


def _numbered(
    work: Work[Task, Result], place: int, task: Task, share: tuple[str, list[list[int]], int]
) -> tuple[int, Result]:
    folder, shares, threads = share
    _claim_cores(folder, shares)
    return place, work(task, threads)


def _claim_cores(folder: str, shares: list[list[int]]) -> None:
    """Keeps this process on the first share that no other has.

    Its lock is never let go of: the kernel does that when the process ends, killed or not, and the one that takes its
    place gets its cores. With more processes than cores the last ones stay on all of them.
    """
    import fcntl

    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < sum(map(len, shares)):
        return
    for number, cores in enumerate(shares):
        lock = os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.sched_setaffinity(0, cores)
        return
