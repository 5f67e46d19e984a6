"""Tasks on several processes and on a real Dask cluster: the same results whoever is killed, or one line."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import cluster_tasks
import pytest

from edgevit.cluster import Workers, opened, scheduler, workers_of
from edgevit.errors import InputError, SetError, UnavailableError
from edgevit.progress import Silent
from tests.dask_cluster import DaskCluster


def run(workers: Workers, work: Callable[..., Any], tasks: list[Any], seen: list[int] | None = None) -> list[Any]:
    with opened(workers, Silent()) as pool:
        return pool.each(work, tasks, lambda place, result: None if seen is None else seen.append(place))


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Workers:
    if request.param == "cluster":
        return workers_of(None, request.getfixturevalue("dask_cluster").address)
    return workers_of(2 if request.param == "processes" else None, None)


EVERYWHERE = pytest.mark.parametrize("workers", ["here", "processes", "cluster"], indirect=True)
ELSEWHERE = pytest.mark.parametrize("workers", ["processes", "cluster"], indirect=True)


@EVERYWHERE
def test_results_come_in_the_tasks_order_from_the_processes_asked_for(workers: Workers) -> None:
    seen: list[int] = []
    results = run(workers, cluster_tasks.squared, list(range(8)), seen)
    assert [square for square, _, _ in results] == [number**2 for number in range(8)]
    assert sorted(seen) == list(range(8))
    processes = {process for _, process, _ in results}
    if workers == Workers():
        assert processes == {os.getpid()}
    else:
        assert len(processes) == 2 and os.getpid() not in processes
        assert all(threads is not None and threads >= 1 for _, _, threads in results)


@EVERYWHERE
def test_an_error_keeps_its_kind_and_its_line(workers: Workers) -> None:
    with pytest.raises(SetError, match="expected nothing, found 7") as caught:
        run(workers, cluster_tasks.refused, [7, 7])
    assert ("on the worker tcp://" in str(caught.value)) == bool(workers.cluster)


@ELSEWHERE
def test_a_process_that_is_killed_loses_nothing(workers: Workers, tmp_path: Path) -> None:
    flag = str(tmp_path / "killed")
    results = run(workers, cluster_tasks.ends_its_process_once, [(number, flag) for number in range(8)])
    assert Path(flag).exists() and results == list(range(8))


def test_a_task_that_kills_whoever_runs_it_is_given_up() -> None:
    with pytest.raises(UnavailableError, match=r"expected 2 processes to finish 5 tasks, found one killed 3 times"):
        run(workers_of(2, None), cluster_tasks.always_ends_its_process, list(range(5)))


def test_a_worker_killed_while_it_has_a_task_loses_nothing(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path)) for number in range(8)]
    killed: list[int] = []

    def kill() -> None:
        while not (begun := list(tmp_path.iterdir())):
            time.sleep(0.01)
        killed.append(int(begun[0].name.partition("-")[2]))
        os.kill(killed[0], signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    results = run(workers_of(None, dask_cluster.address), cluster_tasks.waits, tasks)
    thread.join()
    assert results == list(range(8))
    by = [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]
    assert len(by) > len(tasks), "what it had begun was begun again"
    assert killed[0] in by and set(by) != {killed[0]}


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "text",
    ["tcp://127.0.0.1:8786", "dask://127.0.0.1", "127.0.0.1:8786", "dask://a:b", "dask://h:70000", "dask://h/x:1", ""],
)
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected --cluster as dask://HOST:PORT"):
        workers_of(None, text)


def test_addresses_and_jobs() -> None:
    assert workers_of(None, "dask://head-node.example:8786/").cluster == "head-node.example:8786"
    assert workers_of(3, "dask://[::1]:8786") == Workers(jobs=3, cluster="[::1]:8786")
    with pytest.raises(InputError, match="expected --jobs of at least 1, found 0"):
        workers_of(0, None)


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "CONNECT_SECONDS", 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"dask://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=f"expected a Dask scheduler at {address}, found none") as caught:
            run(workers_of(None, address), cluster_tasks.squared, [1])
    assert "dask scheduler" in str(caught.value) and "\n" not in str(caught.value)


def test_a_worker_of_another_edgevit_is_one_line(dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.__version__", "99.1")
    with pytest.raises(UnavailableError, match=r"expected edgevit 99\.1 on the worker tcp://\S+, as here, found 0\."):
        run(workers_of(None, dask_cluster.address), cluster_tasks.squared, [1])


def test_without_workers_and_without_a_scheduler_in_the_end(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "WORKERS_SECONDS", 1)
    alone = DaskCluster(tmp_path, repository)
    try:
        workers = workers_of(None, alone.address)
        with pytest.raises(UnavailableError, match=r"expected workers at dask://\S+, found none within 1 s"):
            run(workers, cluster_tasks.squared, [1])
        alone.start_workers(1)
        # One worker of one thread: its tasks run there, and not in this process.
        ((_, process, threads),) = run(workers, cluster_tasks.squared, [1])
        assert process != os.getpid() and threads == 1

        def stop() -> None:
            next(alone.busy_workers())
            alone.stop()

        thread = Thread(target=stop)
        thread.start()
        with pytest.raises(
            UnavailableError, match=r"expected (the Dask scheduler|workers) at dask://\S+ until the end"
        ):
            run(workers, cluster_tasks.waits, [(number, str(tmp_path)) for number in range(20)])
        thread.join()
    finally:
        alone.stop()
