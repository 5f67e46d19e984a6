"""What runs tasks: this process, several processes here, or a cluster's workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from edgevit.errors import missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgevit.cluster.workers import Workers
    from edgevit.progress import Progress

Task = TypeVar("Task")
Result = TypeVar("Result")

Work: TypeAlias = "Callable[[Task, int | None], Result]"
"""A function of a module, called with a task and how many threads it may compute with; None leaves that to the engines.

Both task and result are copied between processes, and the function may be called a second time for the same task.
"""


class Pool(Protocol):
    @property
    def slots(self) -> int:
        """How many tasks run at the same time."""

    def each(
        self, work: Work[Task, Result], tasks: Sequence[Task], finished: Callable[[int, Result], None]
    ) -> list[Result]:
        """The result of every task, in their order; `finished` hears of each as it comes, by its place.

        What a task raises ends all of them. Raises UnavailableError where processes or workers are lost for good.
        """


@contextmanager
def opened(workers: Workers, progress: Progress) -> Iterator[Pool]:
    """The processes or the connection for as long as the context lasts.

    Raises UnavailableError where joblib or Dask is not installed, the scheduler does not answer, there are no workers,
    or theirs is another edgevit.
    """
    if workers.alone:
        yield Here()
    elif workers.cluster:
        from edgevit.cluster.scheduler import connected

        check_joblib("running on a Dask cluster")
        with connected(workers, progress) as cluster:
            yield cluster
    else:
        from edgevit.cluster.processes import Processes

        assert workers.jobs is not None, "it would be this process alone"
        check_joblib("running on several processes")
        with Processes(workers.jobs) as processes:
            yield processes


class Here:
    """This process, one task after the other."""

    slots = 1

    def each(
        self, work: Work[Task, Result], tasks: Sequence[Task], finished: Callable[[int, Result], None]
    ) -> list[Result]:
        results = []
        for place, task in enumerate(tasks):
            results.append(work(task, None))
            finished(place, results[-1])
        return results


def check_joblib(purpose: str) -> None:
    try:
        import joblib  # noqa: F401 - whether it is there
    except ImportError as error:
        raise missing_package("joblib", "cluster", purpose) from error
