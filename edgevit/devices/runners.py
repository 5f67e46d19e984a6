"""The vendors' own benchmark programs, for devices without a Python: how each is called, and what it prints.

They fill the inputs with numbers of their own and compare no output: what they give are times, and no parity. The
figures that a program does not give are said in `Runner.about`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError, MeasureError
from edgevit.types import Latency

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevit.types import Build

_NUMBER = r"([\d.eE+-]+)"


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a program says."""

    latency: Latency
    """Milliseconds; without samples, which no program prints."""
    peak_memory_bytes: int = 0
    """0 where the program does not say."""


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of program; `command` of (its path, the model's, threads, seconds) as words without spaces."""

    name: str
    models: dict[str, str]
    """Target to the file of its build that the program opens."""
    command: Callable[[str, str, int, float], list[str]]
    read: Callable[[str], Times | None]
    """What it printed, as times; None for anything else."""
    about: str

    def why_not(self, build: Build) -> str:
        """Why it cannot run a build; empty where it can."""
        if build.target not in self.models:
            return f"{self.name} runs builds of {', '.join(self.models)} alone"
        inputs = build.signature.inputs
        if build.parts or len(inputs) != 1 or not inputs[0].dtype.startswith(("float", "uint8")):
            return f"{self.name} makes its inputs up, and token ids and caches cannot be: measure it with --python"
        return ""

    def times(self, output: str) -> Times:
        """Raises MeasureError, with the last line of what it printed, where that holds no times."""
        found = self.read(output)
        if found is None:
            lines = [line.strip() for line in output.splitlines() if line.strip()] or ["nothing"]
            raise MeasureError(f"expected the times that {self.name} prints, found: {lines[-1][:200]}")
        return found


def find_runner(file: Path) -> Runner:
    """The kind of program by its file's name. Raises InputError with the choices, or where there is no such file."""
    if not file.is_file():
        raise InputError(f"expected a program for the device at {str(file)!r}, found none; correct --runner")
    for runner in RUNNERS:
        if runner.name in file.name:
            return runner
    choices = ", ".join(runner.name for runner in RUNNERS)
    raise InputError(f"expected a file called as the program is ({choices}), found {file.name!r}; correct --runner")


def _benchmark_model(output: str) -> Times | None:
    """LiteRT's: microseconds, of the warm-up first and then of what counts."""
    lines = re.findall(rf"count=(\d+) first=\S+ curr=\S+ min=\S+ max={_NUMBER} avg={_NUMBER}([^\n]*)", output)
    if "Inference (avg):" not in output or not lines:
        return None
    count, largest, mean, rest = lines[-1]
    named = dict(re.findall(rf"(median|p95)={_NUMBER}", rest))
    memory = re.search(rf"\(MB\): init=\S+ overall={_NUMBER}", output)
    latency = Latency(
        p50=float(named.get("median", mean)) / 1e3,
        p90=float(named.get("p95", largest)) / 1e3,
        p99=float(largest) / 1e3,
        mean=float(mean) / 1e3,
        samples=(),
        calls=int(count),
    )
    return Times(latency=latency, peak_memory_bytes=round(float(memory.group(1)) * 2**20) if memory else 0)


def _perf_test(output: str) -> Times | None:
    """ONNX Runtime's: seconds, but for the mean."""
    quantiles = {name: float(value) * 1e3 for name, value in re.findall(rf"P(50|90|99) Latency: {_NUMBER} s", output)}
    mean = re.search(rf"Average inference time cost: {_NUMBER} ms", output)
    count = re.search(r"Total inference requests: (\d+)", output)
    if quantiles.keys() != {"50", "90", "99"} or mean is None or count is None:
        return None
    memory = re.search(r"Peak working set size: ?(\d+)", output)
    latency = Latency(
        p50=quantiles["50"],
        p90=quantiles["90"],
        p99=quantiles["99"],
        mean=float(mean.group(1)),
        samples=(),
        calls=int(count.group(1)),
    )
    return Times(latency=latency, peak_memory_bytes=int(memory.group(1)) if memory else 0)


def _executor_runner(output: str) -> Times | None:
    """ExecuTorch's: all executions together, in milliseconds."""
    found = re.search(rf"Model executed successfully (\d+) time\(s\) in {_NUMBER} ms", output)
    if found is None or int(found.group(1)) < 1:
        return None
    mean = float(found.group(2)) / int(found.group(1))
    return Times(latency=Latency(p50=mean, p90=mean, p99=mean, mean=mean, samples=(), calls=int(found.group(1))))


RUNNERS = (
    Runner(
        name="benchmark_model",
        models={"litert": "model.tflite"},
        command=lambda program, model, threads, seconds: [
            program, f"--graph={model}", f"--num_threads={threads}", f"--min_secs={seconds:g}", "--num_runs=10",
        ],
        read=_benchmark_model,
        about="p99 is its maximum, p90 its p95; where it prints neither that nor a median, p50 is its mean",
    ),
    Runner(
        name="onnxruntime_perf_test",
        models={"onnxruntime": "model.onnx", "ort-mobile": "model.ort"},
        command=lambda program, model, threads, seconds: [
            program, "-e", "cpu", "-m", "duration", "-t", str(max(1, round(seconds))), "-x", str(threads), "-s", "-I",
            model,
        ],
        read=_perf_test,
        about="seconds are whole ones",
    ),
    Runner(
        name="executor_runner",
        models={"executorch": "model.pte"},
        command=lambda program, model, threads, seconds: [
            program, f"--model_path={model}", "--num_executions=50", f"--cpu_threads={threads}",
        ],
        read=_executor_runner,
        about="it gives one mean of 50 executions, which stands for p50, p90 and p99, and no memory",
    ),
)  # fmt: skip
