"""Latency, throughput, memory, cold start and the machine's description.

Exports are loaded on first use: the measuring process imports this package and must stay as light as the runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.measure.bench import bench_builds
    from edgevit.measure.cell import Subject
    from edgevit.measure.coldstart import ColdStartOptions, measure_cold_start
    from edgevit.measure.compare import Change, compare_reports, machine_differences
    from edgevit.measure.machine import available_cores, describe_machine
    from edgevit.measure.options import BenchOptions

_HOMES = {
    "BenchOptions": "options",
    "Change": "compare",
    "ColdStartOptions": "coldstart",
    "Subject": "cell",
    "available_cores": "machine",
    "bench_builds": "bench",
    "compare_reports": "compare",
    "describe_machine": "machine",
    "machine_differences": "compare",
    "measure_cold_start": "coldstart",
}

__all__ = [
    "BenchOptions",
    "Change",
    "ColdStartOptions",
    "Subject",
    "available_cores",
    "bench_builds",
    "compare_reports",
    "describe_machine",
    "machine_differences",
    "measure_cold_start",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
