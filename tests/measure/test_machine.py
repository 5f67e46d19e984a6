from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from edgevit.measure.machine import (
    available_cores,
    busy_share,
    cgroup_cores,
    cgroup_memory,
    describe_machine,
)
from edgevit.measure.memory import peak_memory, release_memory, total_memory
from edgevit.types import Machine


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_cgroup_v2_takes_the_tightest_limit_on_the_way_up(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
            "sys/fs/cgroup/outer/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/outer/memory.max": "max\n",
            "sys/fs/cgroup/outer/inner/memory.max": "1048576\n",
        },
    )
    assert cgroup_cores(root) == 1.5
    assert cgroup_memory(root) == 1048576


def test_cgroup_v1_and_no_limits(tmp_path: Path) -> None:
    root = _write(
        tmp_path / "limited",
        {
            "proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4096\n",
        },
    )
    assert cgroup_cores(root) == 2.0
    assert cgroup_memory(root) == 4096
    free = _write(tmp_path / "free", {"proc/self/cgroup": "0::/\n"})
    assert cgroup_cores(free) is None
    assert cgroup_memory(free) is None


def test_this_machine_is_described_and_survives_a_file() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert machine.memory_bytes > 2**28
    assert machine.cores == available_cores() >= 1
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.packages["numpy"]
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine


@pytest.mark.skipif(sys.platform != "linux", reason="affinity can be set on Linux only")
def test_cores_respect_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a Linux status file")
def test_peak_memory_is_the_high_water_mark_in_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t 999 kB\nVmHWM:\t     120 kB\nVmRSS:\t 80 kB\n")
    assert peak_memory(status) == 120 * 1024


def test_peak_memory_of_this_process_is_plausible() -> None:
    total = total_memory()
    assert total is not None
    assert 2**20 < peak_memory() < total


def test_the_busy_share_is_a_share() -> None:
    share = busy_share(0.05)
    assert share is None or 0.0 <= share <= 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Small blocks that live on, between what is freed, keep glibc from giving it back by itself."""

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    blocks = [bytes(100_000) for _ in range(1000)]
    kept = blocks[::50]
    del blocks
    release_memory()
    before = resident()
    blocks = [bytes(100_000) for _ in range(1000)]
    full = resident()
    kept += blocks[::50]
    del blocks
    release_memory()
    assert full - before > 80_000_000
    assert resident() - before < 30_000_000
    assert len(kept) == 40
