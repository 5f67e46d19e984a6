"""The full TensorRT 10 or 11: data-centre cards and Jetson. It compiles on the card that will run the engine.

Where TensorRT or a GPU is missing, a build is a *kit* (the prepared ONNX, the profile, the options), and one command
finishes it on the device: `edgevit build BUNDLE`. Precisions and options are those of `tensorrt-rtx`, without `gpu`:
`profile` = batch:1:4:8 (min, opt, max); `float_layers`, for what is not quantized; `tf32` = yes | no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError, UnavailableError, missing_package
from edgevit.targets.base import Availability
from edgevit.targets.installed import installed_version
from edgevit.targets.nvidia.device import probe
from edgevit.targets.nvidia.files import ENGINE, LAYERS, ONNX
from edgevit.targets.nvidia.kit import COMMAND, BuildKit, finish_kit, is_unfinished, write_kit
from edgevit.targets.nvidia.profiles import check_profile, parse_profile
from edgevit.types import Execution

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import BuildSource, EngineSession, OpenOptions
    from edgevit.types import Build, Precision, Signature

name = "tensorrt"
device = "GPU"
precisions: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "float8", "int8", "int4w")

PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
OPTIONS = ("profile", "float_layers", "tf32")
INSTALL = "pip install tensorrt 'edgevit[tensorrt]' (JetPack brings TensorRT itself)"


def availability() -> Availability:
    """A kit can be written wherever a graph can be; the engine takes TensorRT and the card it is for."""
    writes = installed_version("onnx-ir") is not None
    fix = "" if writes else "pip install 'edgevit[export]'"
    found = installed_version(*PACKAGES)
    if found is None:
        reason = "TensorRT is not installed here"
        return Availability(build=writes, run=False, build_fix=fix, run_fix=INSTALL, run_reason=reason)
    state = probe()
    runs = not state.reason
    return Availability(
        build=writes, run=runs, version=found, build_fix=fix, run_fix=state.fix, run_reason=state.reason
    )


def why_not(precision: Precision) -> str:
    """A kit of every precision can be written anywhere."""
    return ""


def check_options(precision: Precision, options: dict[str, str], signatures: tuple[Signature, ...] = ()) -> None:
    """Raises InputError for options that make no sense; `signatures` of the model's parts, once they are known."""
    from edgevit.targets.nvidia.prepare import choose_floats

    unknown = [key for key in options if key not in OPTIONS]
    if unknown or options.get("tf32", "no") not in ("yes", "no"):
        raise InputError(
            f"expected options of {name} (profile=batch:1:4:8; float_layers=float16|float32|bfloat16; tf32=yes|no), "
            f"found {', '.join(f'{key}={value}' for key, value in options.items())}"
        )
    choose_floats(precision, options.get("float_layers"))
    check_profile(options.get("profile", ""), signatures)


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.onnx and kit.json, and finishes the kit where TensorRT and a GPU are.

    Raises InputError for options that make no sense, PlanError for a graph TensorRT would misread, BuildError.
    """
    from edgevit.targets.nvidia.prepare import choose_floats, prepare

    check_options(precision, options)
    floats = choose_floats(precision, options.get("float_layers"))
    used = {
        "profile": parse_profile(options.get("profile", ""), source.onnx.signature, source.others).text,
        "float_layers": floats,
        "tf32": options.get("tf32", "no"),
    }
    layers = prepare(source, precision, floats, out / ONNX)
    write_kit(out, BuildKit(precision=precision, options=used, layers=layers))
    return finish(out, source.onnx.signature) if availability().run else {**used, "finish": COMMAND}


def unfinished(build: Build) -> str:
    """Why a build cannot be opened although TensorRT is here; empty for a finished one."""
    return f"it is a build kit, finish it on the device: {COMMAND}" if is_unfinished(build) else ""


def finish(directory: Path, signature: Signature) -> dict[str, str]:
    """Compiles the kit in `directory` for this machine's card; returns the options.

    Raises UnavailableError without TensorRT or a GPU, BuildError with the compiler's reason.
    """
    state = availability()
    if not state.run:
        raise UnavailableError(
            f"expected TensorRT and a GPU to finish {directory.name}: {state.run_reason}; {state.run_fix}"
        )
    return finish_kit(_bindings(), directory, signature, probe().architecture)


def compiled(directory: Path) -> Execution | None:
    """What the builder's log said the engine executes; None for a kit."""
    layers = directory / LAYERS
    return msgspec.json.decode(layers.read_bytes(), type=Execution) if layers.exists() else None


def simulate(directory: Path, path: Path) -> None:
    """Writes an ONNX file whose execution, operator by operator, rounds as the engine will."""
    from edgevit.targets.nvidia.simulation import write_simulation

    write_simulation(directory / ONNX, path)


def open(directory: Path, build: Build, options: OpenOptions) -> EngineSession:
    """Opens a finished build on the card it was compiled for.

    Raises UnavailableError without TensorRT or a GPU, for a kit, and for another version or card (unless
    `options.rebuild`).
    """
    state = availability()
    if not state.run:
        raise UnavailableError(f"expected TensorRT and a GPU for {build.name}: {state.run_reason}; {state.run_fix}")
    if is_unfinished(build) or not (directory / ENGINE).exists():
        raise UnavailableError(f"expected an engine in {directory}, found a build kit; run: {COMMAND}")
    from edgevit.targets.nvidia.opening import open_full

    return open_full(_bindings(), directory, build, options)


def _bindings() -> Any:
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        raise missing_package("tensorrt", "tensorrt", "the target tensorrt") from error
    return tensorrt
