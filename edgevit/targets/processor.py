"""Which of the processor's instructions decide precision and speed here."""

from __future__ import annotations

import platform
from pathlib import Path

RELEVANT = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
INT8_DOT_PRODUCTS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


def instruction_sets() -> tuple[str, ...]:
    """The relevant ones that this processor has, in `RELEVANT`'s order; empty where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                return tuple(name for name in RELEVANT if name in flags)
    # Every Apple processor has the int8 dot product; elsewhere nothing is claimed.
    return ("asimd", "asimddp") if platform.system() == "Darwin" and platform.machine() == "arm64" else ()


def multiplies_int8_exactly(present: tuple[str, ...]) -> bool:
    """Whether int8 products accumulate in int32 at once.

    Without such an instruction x86-64 kernels add pairs of products in int16 (vpmaddubsw), which overflows.
    """
    return any(name in INT8_DOT_PRODUCTS for name in present)


def best_instruction_set(present: tuple[str, ...]) -> str:
    """The widest one, for a report: `avx512_vnni`, `avx2`, …"""
    order = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "i8mm", "asimddp", "asimd")
    return next((name for name in order if name in present), platform.machine())
