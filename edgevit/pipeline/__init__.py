"""The whole way, stage by stage, and what can be done with a finished bundle. Each command is one function here."""

from edgevit.pipeline.commands import bench, parity, read_bench, run, verify
from edgevit.pipeline.device_bench import bench_on
from edgevit.pipeline.diagnosis import doctor
from edgevit.pipeline.exporting import ExportOptions, ExportResult, export
from edgevit.pipeline.inspecting import inspect
from edgevit.pipeline.runner_bench import bench_with_runner
from edgevit.pipeline.sweeps import SweepOptions, sweep
from edgevit.runtime.translate import Changes

__all__ = [
    "Changes",
    "ExportOptions",
    "ExportResult",
    "SweepOptions",
    "bench",
    "bench_on",
    "bench_with_runner",
    "doctor",
    "export",
    "inspect",
    "parity",
    "read_bench",
    "run",
    "sweep",
    "verify",
]
