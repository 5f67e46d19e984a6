"""The machine a build is made or measured on, described with the standard library alone."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import MeasureError
from edgevit.measure.memory import total_memory
from edgevit.system import command_output, read_text
from edgevit.targets.processor import read_processor
from edgevit.types import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = (
    "edgevit",
    "numpy",
    "openvino",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "executorch",
    "ai-edge-litert",
    "coremltools",
    "onnx",
    "torch",
    "nncf",
)

_ROOT = Path("/")


def describe_machine() -> Machine:
    """This machine as this process may use it: cores and memory respect affinity and container limits.

    `memory_bytes` is physical memory or the container's limit, whichever is smaller. No engine is imported: versions
    come from package metadata. Raises MeasureError where the memory size cannot be read at all.
    """
    name, instruction_sets = read_processor()
    return Machine(
        cpu=name or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=available_cores(),
        memory_bytes=_memory(),
        instruction_sets=instruction_sets,
        os=_operating_system(),
        python=platform.python_version(),
        packages=_packages(),
        gpu=_nvidia_gpu(),
    )


def available_cores() -> int:
    """Logical processors this process may use: the affinity mask, cut by a container's CPU quota (rounded down)."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0))
    quota = cgroup_cores(_ROOT)
    return affinity if quota is None else max(1, min(affinity, math.floor(quota)))


def busy_share(seconds: float = 0.5) -> float | None:
    """Share of this machine's processors, 0 to 1, that is busy while this process waits; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.cpu_percent(interval=seconds)) / 100


def cgroup_cores(root: Path) -> float | None:
    """The smallest CPU quota on the way from this process's control group to the top, in cores; None for no quota.

    Reads both interfaces: version 2 (`cpu.max`: "quota period") and version 1 (`cpu.cfs_quota_us`, -1 for none).
    """
    cores = []
    for directory in _cgroup_directories(root, "cpu"):
        unified = read_text(directory / "cpu.max").split()
        if len(unified) == 2 and unified[0] != "max":
            cores.append(int(unified[0]) / int(unified[1]))
        quota, period = read_text(directory / "cpu.cfs_quota_us"), read_text(directory / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            cores.append(int(quota) / int(period))
    return min(cores, default=None)


def cgroup_memory(root: Path) -> int | None:
    """The smallest memory limit on the way from this process's control group to the top, bytes; None for no limit."""
    limits = []
    for directory in _cgroup_directories(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(directory / name)
            if text and text != "max":
                limits.append(int(text))
    return min(limits, default=None)


def _memory() -> int:
    total = total_memory()
    if total is None:
        raise MeasureError(
            f"expected the size of physical memory, found none, on {platform.system()}; run: pip install psutil"
        )
    limit = cgroup_memory(_ROOT) if sys.platform == "linux" else None
    return total if limit is None else min(total, limit)


def _operating_system() -> str:
    if sys.platform == "linux":
        release = read_text(_ROOT / "etc/os-release")
        pretty = [line.split("=", 1)[1].strip('"') for line in release.splitlines() if line.startswith("PRETTY_NAME=")]
        return f"{pretty[0] if pretty else 'Linux'} (kernel {platform.release()})"
    return f"{platform.system()} {platform.release()}"


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # An absent package has no version to report.
    return versions


def _nvidia_gpu() -> str | None:
    """Names of the NVIDIA GPUs, or None; a driver tool that fails means that no GPU can be used."""
    if shutil.which("nvidia-smi") is None:
        return None
    names = command_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return ", ".join(name.strip() for name in names if name.strip()) or None


def _cgroup_directories(root: Path, controller: str) -> Iterator[Path]:
    """Every directory that may hold a limit of `controller` for this process, from its own group up to the top."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, names, group = line.split(":", 2)
        if names == "":
            top = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            top = root / "sys/fs/cgroup" / names
        else:
            continue
        directory = top / group.lstrip("/")
        yield directory
        while directory != top:
            directory = directory.parent
            yield directory
