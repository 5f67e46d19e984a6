"""Memory of this machine and of this process: its peak, read without psutil where possible, and what it gives back."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from edgevit.errors import MeasureError


def total_memory() -> int | None:
    """Physical memory in bytes; None where neither the system nor psutil says."""
    if sys.platform == "win32":
        try:
            import psutil
        except ImportError:
            return None
        return int(psutil.virtual_memory().total)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """The largest resident set this process has had, bytes, interpreter and libraries included.

    Linux: VmHWM of /proc/self/status, because `ru_maxrss` survives exec and so reports the parent's peak in a child
    of a large process. macOS: `ru_maxrss`, bytes there. Windows: psutil. Raises MeasureError where none exists.
    """
    if sys.platform == "linux":
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise MeasureError(f"expected a line 'VmHWM:', found none in {status}; mount /proc to measure memory")
    if sys.platform == "win32":
        try:
            import psutil
        except ImportError as error:
            raise MeasureError(
                "expected psutil to read peak memory on Windows, found it missing; run: pip install psutil"
            ) from error
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory() -> None:
    """Gives freed memory back to the system, that of unreachable cycles included.

    glibc keeps what it once had: freed graphs and weights lie between small blocks that live on. After the stages of
    a ViT-B it held 2 GB that nobody used. Elsewhere than on glibc only the cycles are collected.
    """
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def resident_memory(statm: Path = Path("/proc/self/statm")) -> int:
    """The resident set of this process now, bytes; read from /proc on Linux, by psutil elsewhere."""
    if sys.platform == "linux":
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.Process().memory_info().rss)
