"""TensorRT-RTX: engines for NVIDIA's RTX cards, compiled ahead of time on any x86-64 machine, no GPU needed.

    pip install 'edgevit[tensorrt-rtx]'     90 MB to download, 220 MB installed

Precisions: float16 (norms and softmax in float32), bfloat16, float32; int8 and float8 (E4M3; Ada and newer) from the
plan with float16 around them; int4w, weights alone in blocks of 64 (Ampere and newer).
Options: `gpu` = sm75,sm80,sm86,sm89,sm120,sm121; `profile` = batch:1:4:8 (min, opt, max); `float_layers`, for what is
not quantized; `tf32` = yes | no. A build holds the engine, the ONNX it was compiled from, and the table of its layers.
The same input gives the same bytes. Without a GPU nothing executes: such a build is *built, not executed*.

Sizes of engines for sm86 (1.7.1, batch 1 to 8), MB: ViT-Ti/16 float32 30.1, float16 16.1, int8 16.2; ViT-S/16 95.5,
48.9, 32.7. Attention is fused in float16, bfloat16 and int8 and not in float32. All 50 products of either run in int8,
but on Turing, where the patch embedding falls back to float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError, UnavailableError, missing_package
from edgevit.targets.base import Availability
from edgevit.targets.installed import installed_version
from edgevit.targets.nvidia.architectures import check_precision, default_architectures, parse_architectures
from edgevit.targets.nvidia.device import probe
from edgevit.targets.nvidia.files import ENGINE, LAYERS, ONNX
from edgevit.targets.nvidia.profiles import check_profile, parse_profile, profile_of
from edgevit.types import Execution

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import BuildSource, EngineSession, OpenOptions
    from edgevit.types import Build, Precision, Signature

name = "tensorrt-rtx"
device = "GPU"
precisions: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "float8", "int8", "int4w")

PACKAGE = "tensorrt-rtx-cu12-bindings"
OPTIONS = ("gpu", "profile", "float_layers", "tf32")


def availability() -> Availability:
    """Builds wherever the wheels are; runs where a driver shows an NVIDIA GPU."""
    fix = "pip install 'edgevit[tensorrt-rtx]'"
    found = installed_version(PACKAGE)
    if found is None:
        return Availability(build=False, run=False, build_fix=fix, run_fix=fix)
    state = probe()
    if state.reason:
        return Availability(build=True, run=False, version=found, run_fix=state.fix, run_reason=state.reason)
    return Availability(build=True, run=True, version=found)


def why_not(precision: Precision) -> str:
    """It compiles every precision it offers on every machine; what a card executes is checked against `gpu`."""
    return ""


def check_options(precision: Precision, options: dict[str, str], signatures: tuple[Signature, ...] = ()) -> None:
    """Raises InputError for options that make no sense; `signatures` of the model's parts, once they are known."""
    _checked(precision, options)
    check_profile(options.get("profile", ""), signatures)


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.engine, model.onnx and layers.json; returns the options used and what the builder's log shows.

    Raises InputError for options that make no sense, PlanError for a graph TensorRT would misread, BuildError.
    """
    from edgevit.targets.nvidia.engine_file import check_built
    from edgevit.targets.nvidia.log_table import count_kernels, read_execution
    from edgevit.targets.nvidia.network import NetworkOptions, build_engine
    from edgevit.targets.nvidia.prepare import choose_floats, prepare

    used = _checked(precision, options)
    used["profile"] = parse_profile(options.get("profile", ""), source.onnx.signature, source.others).text
    floats = choose_floats(precision, used["float_layers"])
    layers = prepare(source, precision, floats, out / ONNX)
    architectures = parse_architectures(used["gpu"])
    network = NetworkOptions(
        profile=profile_of(used["profile"], source.onnx.signature),
        architectures=architectures,
        tf32=used["tf32"] == "yes",
    )
    nvidia = _bindings()
    built = build_engine(nvidia, out / ONNX, source.onnx.signature, network)
    (out / ENGINE).write_bytes(built.engine)
    check_built(out / ENGINE, nvidia.__version__, architectures)
    execution = read_execution(built.log, layers, f"TensorRT-RTX {nvidia.__version__} for {used['gpu']}")
    (out / LAYERS).write_bytes(msgspec.json.format(msgspec.json.encode(execution), indent=1))
    used["kernels"] = ", ".join(f"{count} {kind}" for kind, count in count_kernels(built.log).items())
    if execution.quantized_requested:
        used[f"{precision}_layers"] = f"{execution.quantized_executed} of {execution.quantized_requested}"
    return used


def compiled(directory: Path) -> Execution:
    """What the builder's log said the engine executes; nothing has been run."""
    return msgspec.json.decode((directory / LAYERS).read_bytes(), type=Execution)


def simulate(directory: Path, path: Path) -> None:
    """Writes an ONNX file whose execution, operator by operator, rounds as the engine in `directory` does."""
    from edgevit.targets.nvidia.simulation import write_simulation

    write_simulation(directory / ONNX, path)


def open(directory: Path, build: Build, options: OpenOptions) -> EngineSession:
    """Opens a build on the GPU of this machine.

    Raises UnavailableError without a GPU, or where version or card do not fit (unless `options.rebuild`).
    """
    state = availability()
    if not state.run:
        raise UnavailableError(
            f"expected an NVIDIA GPU for {build.name}, found none: {state.run_reason}; {state.run_fix}"
        )
    from edgevit.targets.nvidia.opening import open_rtx

    return open_rtx(_bindings(), directory, build, options)


def _checked(precision: Precision, options: dict[str, str]) -> dict[str, str]:
    """Every option but the profile with its value, checked before any work."""
    from edgevit.targets.nvidia.prepare import choose_floats

    unknown = [key for key in options if key not in OPTIONS]
    if unknown or options.get("tf32", "no") not in ("yes", "no"):
        raise InputError(
            f"expected options of {name} (gpu=sm86,sm89; profile=batch:1:4:8; float_layers=float16|float32|bfloat16; "
            f"tf32=yes|no), found {', '.join(f'{key}={value}' for key, value in options.items())}"
        )
    architectures = parse_architectures(options.get("gpu", ",".join(default_architectures(precision))))
    floats = choose_floats(precision, options.get("float_layers"))
    check_precision(precision, floats, architectures)
    return {
        "gpu": ",".join(architectures),
        "float_layers": floats,
        "tf32": options.get("tf32", "no"),
    }


def _bindings() -> Any:
    try:
        import tensorrt_rtx_bindings
    except ModuleNotFoundError as error:
        raise missing_package(PACKAGE, "tensorrt-rtx", "the target tensorrt-rtx") from error
    return tensorrt_rtx_bindings
