"""The workers of an existing Dask cluster, by joblib's backend for it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from importlib import metadata
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from edgevit.cluster.workers import SCHEME
from edgevit.errors import EdgevitError, UnavailableError, missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edgevit.cluster.pool import Work
    from edgevit.cluster.workers import Workers
    from edgevit.progress import Progress

    Task = TypeVar("Task")
    Result = TypeVar("Result")

CONNECT_SECONDS = 10
WORKERS_SECONDS = 4
"""How long a cluster may be without any worker, at the beginning and later on: workers of a queueing system come late,
and killed ones are started again by their nannies."""
ENGINES = ("numpy", "openvino", "onnxruntime", "torch")
_VERSION = "edgevit:__version__"

_ONE_AT_A_TIME = threading.Lock()
"""A worker of several threads would run as many tasks at once. Engines have threads of their own, and a model is traced
by one thread of a process."""


@contextmanager
def connected(workers: Workers, progress: Progress) -> Iterator[Cluster]:
    """The cluster, with at least one worker of this edgevit. Raises UnavailableError."""
    try:
        from distributed import Client
    except ImportError as error:
        raise missing_package("distributed", "cluster", "running on a Dask cluster") from error
    address = workers.cluster
    with _quiet():
        try:
            client: Any = Client(f"tcp://{address}", timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:  # a time-out is an OSError
            reason = " ".join(str(error).split())
            raise UnavailableError(
                f"expected a Dask scheduler at {SCHEME}://{address}, found none that answers within "
                f"{CONNECT_SECONDS} s ({reason[:200]}); start one there with: dask scheduler"
            ) from error
        try:
            _wait_for_workers(client, address)
            _check_versions(client, progress)
            yield Cluster(client, address, workers.jobs)
        finally:
            client.close(timeout=CONNECT_SECONDS)


class Cluster:
    """A pool of the workers that are there when it is opened; one task at a time on each."""

    def __init__(self, client: Any, address: str, jobs: int | None) -> None:
        count = len(client.ncores())
        self.slots = count if jobs is None else min(jobs, count)
        self._client = client
        self._address = address

    def each(
        self, work: Work[Task, Result], tasks: Sequence[Task], finished: Callable[[int, Result], None]
    ) -> list[Result]:
        """As `Pool.each`; the scheduler gives the tasks of a worker that has died to others."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker
        from joblib import Parallel, delayed, parallel_config

        backend = _backend(self._client, self.slots)
        results: dict[int, Result] = {}
        with _watched(self._client, self._address, backend), parallel_config(backend):
            run = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=self.slots)
            try:
                for place, result in run(delayed(_numbered)(work, *pair) for pair in enumerate(tasks)):
                    results[place] = result
                    finished(place, result)
            except KilledWorker as error:
                raise UnavailableError(
                    f"expected the workers of {SCHEME}://{self._address} to finish {len(tasks)} tasks, found that one "
                    f"task has ended {error.allowed_failures + 1} of them, with {len(tasks) - len(results)} left; most "
                    "often memory has run out: see the worker's log"
                ) from error
            except FutureCancelledError as error:
                raise _gone(self._address) from error
        return [results[place] for place in range(len(tasks))]


def _numbered(work: Work[Task, Result], place: int, task: Task) -> tuple[int, Result]:
    """On the worker: its threads are its share of its machine's cores."""
    from distributed import get_worker

    worker = get_worker()
    try:
        with _ONE_AT_A_TIME:
            return place, work(task, worker.state.nthreads)
    except EdgevitError as error:
        error.args = (f"on the worker {worker.address}: {error}",)
        raise


def _wait_for_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
    except TimeoutError as error:
        raise UnavailableError(
            f"expected workers at {SCHEME}://{address}, found none within {WORKERS_SECONDS} s; start some with: "
            f"dask worker {address}"
        ) from error


def _check_versions(client: Any, progress: Progress) -> None:
    """Every worker has this edgevit; other engines are told of, because their results differ in the last digits.

    Only functions of the standard library are sent: what stands on a worker is not known yet.
    """
    ours = resolve_name(_VERSION)
    for worker, found in client.run(resolve_name, _VERSION, on_error="return").items():
        if isinstance(found, ImportError):
            raise UnavailableError(
                f"expected edgevit {ours} on the worker {worker}, found none ({found}); run there: "
                f"pip install edgevit=={ours}"
            )
        if found != ours:
            raise UnavailableError(
                f"expected edgevit {ours} on the worker {worker}, as here, found {found}; install one version on both"
            )
    for package in ENGINES:
        here = _version(package)
        others = client.run(metadata.version, package, on_error="return")
        different = {worker: found for worker, found in others.items() if here and found != here}
        for worker, found in list(different.items())[:1]:
            stands = "none" if isinstance(found, Exception) else found
            progress.note(
                f"{package} is {here} here and {stands} on {len(different)} of {len(others)} workers ({worker}); "
                "results may differ in their last digits"
            )


def _gone(address: str) -> UnavailableError:
    return UnavailableError(
        f"expected the Dask scheduler at {SCHEME}://{address} until the end, found it gone; start it, then run "
        "the command again"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


# ---------------------------------------------------------------------------------------- joblib and Dask


class _Lost:
    """What joblib is handed in place of a result."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _backend(client: Any, slots: int) -> Any:
    """joblib's backend, with two gaps closed.

    joblib 1.6 waits for ever for a task that Dask has given up, and runs the tasks of a cluster of one core itself.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(client=client)
            self.pending: set[Any] = set()

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, slots)

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)

            def ended(future: Any) -> None:
                self.pending.discard(future)
                if future.exception() is not None:
                    callback(_Lost(future.exception()))

            self.pending.add(future)
            future.add_done_callback(ended)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, _Lost):
                raise out.error
            return super().retrieve_result_callback(out)

        def give_up(self, error: Exception) -> None:
            for future in tuple(self.pending):
                if not future.done():
                    future.set_exception(error)

    return Backend()


@contextmanager
def _watched(client: Any, address: str, backend: Any) -> Iterator[None]:
    """Gives the tasks up when the scheduler is gone, or when there has been no worker for a while."""
    over = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not over.wait(1.0):
            if client.status != "running":
                backend.give_up(_gone(address))
                return
            if client.scheduler_info(n_workers=1)["workers"]:
                seen = time.monotonic()
            elif time.monotonic() - seen > WORKERS_SECONDS:
                backend.give_up(
                    UnavailableError(
                        f"expected workers at {SCHEME}://{address} until the end, found none for {WORKERS_SECONDS} s; "
                        f"start some with `dask worker {address}` and run the command again"
                    )
                )
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own messages are for an administrator: what matters of them arrives as an exception."""
    # Some of its loggers have levels of their own.
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    loggers = [logging.getLogger(name) for name in (*names, "asyncio")]
    levels = [logger.level for logger in loggers]
    _set_levels(loggers, [logging.CRITICAL + 1] * len(loggers))
    try:
        yield
    finally:
        _set_levels(loggers, levels)


def _set_levels(loggers: Iterable[logging.Logger], levels: Iterable[int]) -> None:
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
