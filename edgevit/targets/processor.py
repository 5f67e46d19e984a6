"""Which of the processor's instructions decide precision and speed here."""

from __future__ import annotations

import functools
import platform
import sys
from pathlib import Path

from edgevit.system import command_output, read_text

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
INT8_DOT_PRODUCTS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")

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


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Those of this processor; asked of the system once."""
    return read_processor()[1]


def read_processor() -> tuple[str, tuple[str, ...]]:
    """(this processor's name, the sets it has in INSTRUCTION_SETS' order); empty where the system does not tell."""
    if sys.platform == "linux":
        name, instruction_sets = parse_cpuinfo(read_text(_ROOT / "proc/cpuinfo"))
        # A board's device tree names what an Arm cpuinfo does not; its text ends with a zero byte.
        return name or read_text(_ROOT / "proc/device-tree/model").strip("\0"), instruction_sets
    if sys.platform == "darwin":
        name, told = parse_sysctl(command_output("sysctl", "hw", "machdep.cpu"))
        # Every Apple processor has the int8 dot product; macOS before 12 does not say so.
        known = {"asimd", "asimddp"} if platform.machine() == "arm64" else set()
        return name, _ordered({*told, *known})
    if sys.platform == "win32":
        import ctypes

        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return platform.processor(), _ordered({ours for number, ours in _WINDOWS_FEATURES.items() if present(number)})
    return platform.processor(), ()


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """(processor name, instruction sets in INSTRUCTION_SETS' order) of the text of Linux's /proc/cpuinfo.

    A set counts where every core has it: a thread may run on any. Arm kernels give no model name; it is then empty.
    """
    name, cores = "", list[set[str]]()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            cores.append(set(value.split()))
    return name, _ordered(set[str]().union(*cores[:1]).intersection(*cores))


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """The same of the output of macOS's `sysctl hw machdep.cpu` (lines of `key: value`)."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    found = {ours for key, ours in _MACOS_ARM.items() if values.get(key, "").strip() == "1"}
    reported = (
        f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".lower().split()
    )
    found.update(ours for theirs, ours in _MACOS_INTEL.items() if theirs in reported)
    return values.get("machdep.cpu.brand_string", "").strip(), _ordered(found)


def multiplies_int8_exactly(present: tuple[str, ...]) -> bool:
    """Whether int8 products accumulate in int32 at once.

    Without such an instruction x86-64 kernels add pairs of products in int16 (vpmaddubsw), which overflows.
    """
    return any(name in INT8_DOT_PRODUCTS for name in present)


def best_instruction_set(present: tuple[str, ...]) -> str:
    """The widest one, for a report: `avx512_vnni`, `avx2`, …"""
    order = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "i8mm", "asimddp", "asimd")
    return next((name for name in order if name in present), platform.machine())


def _ordered(flags: set[str]) -> tuple[str, ...]:
    return tuple(name for name in INSTRUCTION_SETS if name in flags)
