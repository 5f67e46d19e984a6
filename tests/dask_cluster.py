"""A Dask scheduler and two workers as people start them: with Dask's own commands, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest


class DaskCluster:
    """Free ports, and everything it starts is gone when it is stopped."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self._file = folder / "scheduler.json"
        self._folder = folder
        paths = os.pathsep.join((str(repository), str(repository / "tests")))
        self._environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self._workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(self._file)]
        log = (self._folder / "log").open("ab")
        # Somewhere else, as the workers of a cluster are.
        return subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    @property
    def tcp(self) -> str:
        for _ in range(600):
            if self._file.exists() and self._file.stat().st_size:
                address: str = json.loads(self._file.read_text())["address"]
                return address
            assert self.scheduler.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("the scheduler has not begun")

    @property
    def address(self) -> str:
        """As --cluster takes it."""
        return self.tcp.replace("tcp://", "dask://")

    def start_workers(self, count: int) -> None:
        assert self.tcp
        for _ in range(count):
            arguments = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self._folder))
            self._workers.append(self._start("worker", *arguments))
        with self.client() as client:
            client.wait_for_workers(count, timeout=60)

    @contextmanager
    def client(self) -> Iterator[Any]:
        from distributed import Client

        with Client(self.tcp, set_as_default=False, timeout=30) as client:
            yield client

    def busy_workers(self) -> Iterator[tuple[str, int]]:
        """Again and again: the address and the process of each worker that has begun a task."""
        with self.client() as client:
            processes = client.run(os.getpid)
            while True:
                yield from ((worker, processes[worker]) for worker, tasks in client.processing().items() if tasks)
                time.sleep(0.02)

    def stop(self) -> None:
        for process in (*self._workers, self.scheduler):
            if process.poll() is None:
                for one in (*psutil.Process(process.pid).children(recursive=True), process):
                    one.kill()
            process.wait()


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[DaskCluster]:
    """A scheduler and two workers; a killed worker is started again by its nanny."""
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"), repository)
    try:
        cluster.start_workers(2)
        yield cluster
    finally:
        cluster.stop()
