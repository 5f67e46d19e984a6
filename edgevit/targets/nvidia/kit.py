"""A build kit: everything that finishes a build on the device, where the compiler and the card are.

The kit is the ONNX that the parser gets (Q/DQ written, float layers converted), the profile, the options and the
layers that the plan wants in int8. One command finishes it: `edgevit build BUNDLE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import BundleError
from edgevit.targets.nvidia.architectures import check_card
from edgevit.targets.nvidia.files import ENGINE, KIT, LAYERS, ONNX, TIMINGS
from edgevit.targets.nvidia.log_table import count_kernels, read_execution
from edgevit.targets.nvidia.network import NetworkOptions, build_engine
from edgevit.targets.nvidia.profiles import profile_of
from edgevit.types import Precision, Value

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.types import Build, Signature

COMMAND = "edgevit build BUNDLE"


class BuildKit(Value, frozen=True, kw_only=True):
    schema: int = 1
    precision: Precision
    options: dict[str, str]
    layers: tuple[tuple[str, str], ...]
    """(ONNX node, precision asked for) of every linear layer and convolution."""
    finish: str = COMMAND


def write_kit(directory: Path, kit: BuildKit) -> None:
    (directory / KIT).write_bytes(msgspec.json.format(msgspec.json.encode(kit), indent=1) + b"\n")


def read_kit(directory: Path) -> BuildKit:
    """Raises BundleError where it is missing or not one."""
    path = directory / KIT
    try:
        return msgspec.json.decode(path.read_bytes(), type=BuildKit)
    except OSError as error:
        raise BundleError(f"expected a build kit at {path}, which cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"expected a build kit at {path}, found: {error}; export the bundle again") from error


def is_unfinished(build: Build) -> bool:
    """Whether a build is a kit without an engine."""
    names = {file.path.rpartition("/")[2] for file in build.files}
    return KIT in names and ENGINE not in names


def finish_kit(nvidia: Any, directory: Path, signature: Signature, card: str) -> dict[str, str]:
    """Compiles the kit in `directory` for the card of this machine; returns the options with what the log shows.

    Writes the engine, its table of layers and the timings, which make the next build faster. Raises BuildError.
    """
    kit = read_kit(directory)
    check_card(kit.precision, (card,))
    timings = directory / TIMINGS
    network = NetworkOptions(
        profile=profile_of(kit.options.get("profile", ""), signature),
        tf32=kit.options.get("tf32") == "yes",
        timing_cache=timings.read_bytes() if timings.exists() else b"",
    )
    built = build_engine(nvidia, directory / ONNX, signature, network)
    (directory / ENGINE).write_bytes(built.engine)
    timings.write_bytes(built.timing_cache)
    execution = read_execution(built.log, kit.layers, f"TensorRT {nvidia.__version__} for {card}")
    (directory / LAYERS).write_bytes(msgspec.json.format(msgspec.json.encode(execution), indent=1))
    used = {**kit.options, "gpu": card}
    used["kernels"] = ", ".join(f"{count} {kind}" for kind, count in count_kernels(built.log).items())
    if execution.quantized_requested:
        used[f"{kit.precision}_layers"] = f"{execution.quantized_executed} of {execution.quantized_requested}"
    return used
