"""The machine a build is made or measured on, described with the standard library alone."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import MeasureError
from edgevit.measure.memory import total_memory
from edgevit.types import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTRUCTION_SETS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Linux's names (`flags` or `Features` of /proc/cpuinfo); other systems' names are brought to these."""

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
_MACOS_ARM = {
    "hw.optional.arm.AdvSIMD": "asimd",
    "hw.optional.neon": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
_MACOS_INTEL = {"avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f", "avx512vnni": "avx512_vnni"}
_WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 19: "asimd", 43: "asimddp"}
"""PF_* numbers of winnt.h that `IsProcessorFeaturePresent` answers."""


def describe_machine() -> Machine:
    """This machine as this process may use it: cores and memory respect affinity and container limits.

    `memory_bytes` is physical memory or the container's limit, whichever is smaller. No engine is imported: versions
    come from package metadata. Raises MeasureError where the memory size cannot be read at all.
    """
    name, instruction_sets = _processor()
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
        unified = _read(directory / "cpu.max").split()
        if len(unified) == 2 and unified[0] != "max":
            cores.append(int(unified[0]) / int(unified[1]))
        quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            cores.append(int(quota) / int(period))
    return min(cores, default=None)


def cgroup_memory(root: Path) -> int | None:
    """The smallest memory limit on the way from this process's control group to the top, bytes; None for no limit."""
    limits = []
    for directory in _cgroup_directories(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(directory / name)
            if text and text != "max":
                limits.append(int(text))
    return min(limits, default=None)


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """(processor name, instruction sets in INSTRUCTION_SETS' order) of the text of Linux's /proc/cpuinfo.

    Arm kernels give no model name there; the name is then empty.
    """
    name, flags = "", set[str]()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags.update(value.split())
    return name, _ordered(flags)


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """The same of the output of macOS's `sysctl hw machdep.cpu` (lines of `key: value`)."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    found = {ours for key, ours in _MACOS_ARM.items() if values.get(key, "").strip() == "1"}
    reported = (
        f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".lower().split()
    )
    found.update(ours for theirs, ours in _MACOS_INTEL.items() if theirs in reported)
    return values.get("machdep.cpu.brand_string", "").strip(), _ordered(found)


def _processor() -> tuple[str, tuple[str, ...]]:
    if sys.platform == "linux":
        name, instruction_sets = parse_cpuinfo(_read(_ROOT / "proc/cpuinfo"))
        # A board's device tree names what an Arm cpuinfo does not; its text ends with a zero byte.
        return name or _read(_ROOT / "proc/device-tree/model").strip("\0"), instruction_sets
    if sys.platform == "darwin":
        return parse_sysctl(_command_output("sysctl", "hw", "machdep.cpu"))
    if sys.platform == "win32":
        import ctypes

        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return platform.processor(), _ordered({ours for number, ours in _WINDOWS_FEATURES.items() if present(number)})
    return platform.processor(), ()


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
        release = _read(_ROOT / "etc/os-release")
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
    names = _command_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return ", ".join(name.strip() for name in names if name.strip()) or None


def _command_output(*command: str) -> str:
    """What a system tool prints, or nothing when it is absent, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _cgroup_directories(root: Path, controller: str) -> Iterator[Path]:
    """Every directory that may hold a limit of `controller` for this process, from its own group up to the top."""
    for line in _read(root / "proc/self/cgroup").splitlines():
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


def _ordered(flags: set[str]) -> tuple[str, ...]:
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def _read(path: Path) -> str:
    """The stripped text of a small system file; empty when this kernel has no such file or hides it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
