"""Core ML, for iPhones, iPads and Macs: an ML program in float16, int8 from the plan, int8 weights and 4-bit palettes.

Facts this file answers to: coremltools converts from torch.export, on Linux too, and executes on macOS only, so a build
is *built, not executed*; the package is therefore read back, and a build whose operators, interface, codes or scales
are not what was asked for is an error. Numbers beside codes are float16 there, the plan's scales as well. A program has
one batch: a flexible one keeps the Neural Engine away. 4-bit palettes have one table per 16 output channels, which
needs iOS 18; everything else runs on iOS 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.targets.installed import installed_version, with_exporter
from edgevit.targets.torch_source import image_module
from edgevit.types import Execution, ImagePreprocess

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import Availability, BuildSource, EngineSession, OpenOptions
    from edgevit.types import Build, FloatModel, Precision

name = "coreml"
device = "Apple"
precisions: tuple[Precision, ...] = ("float16", "int8", "int8w", "int4w")

INSTALL = "pip install 'edgevit[coreml]'"
OPTIONS = "batch=N, the only one it will take; input=array|image, image: 8-bit pixels, normalized inside"
PACKAGE = "model.mlpackage"
LAYERS = "layers.json"
PLANNED = ("int8", "int8w")


def availability() -> Availability:
    """Builds wherever coremltools is; nothing runs here, whatever the machine: an application does that."""
    found = installed_version("coremltools") if installed_version("torch") else None
    state = with_exporter(found, INSTALL)
    if found is None:
        return state
    return msgspec.structs.replace(
        state,
        run=False,
        run_fix=f"add the build's {PACKAGE} to an application in Xcode",
        run_reason="Core ML runs in applications on Apple's systems",
    )


def why_not(precision: Precision) -> str:
    """Conversion needs no hardware of Apple's."""
    return ""


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.mlpackage and layers.json: how each layer's weight is stored and whether its input is quantized.

    Raises BuildError where coremltools refuses the model or the package is not what was asked for, InputError for
    options that make no sense and for a model that did not come from PyTorch or takes text.
    """
    batch = _batch(source, options)
    as_image = options.get("input", "array") == "image"
    from edgevit.targets.apple.convert import Interface, convert, import_coremltools

    import_coremltools()
    if precision in PLANNED and source.plan is None:
        raise BuildError(f"expected a plan for {name}:{precision}, found none; calibrate first")
    model = image_module(source, name)
    pixels = _pixels(model, batch) if as_image else None
    from edgevit.targets.apple.check import check_package

    converted = convert(model, source, precision, Interface(batch=batch, pixels=pixels), out / PACKAGE)
    found = check_package(out / PACKAGE, model.signature, precision, converted)
    (out / LAYERS).write_bytes(msgspec.json.format(msgspec.json.encode(found.execution), indent=1) + b"\n")
    used = {"batch": str(batch), "input": "image" if as_image else "array", "minimum": found.minimum}
    used["operators"] = ", ".join(f"{count} {operator}" for operator, count in found.operators.items())
    if precision in PLANNED:
        used["int8_layers"] = f"{found.execution.quantized_executed} of {found.execution.quantized_requested}"
    return used


def compiled(directory: Path) -> Execution:
    """What the package holds, layer by layer; nothing has been run. Raises BundleError."""
    path = directory / LAYERS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Execution)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(f"expected the layers of {name} at {path}, found: {error}; export it again") from error


def open(directory: Path, build: Build, options: OpenOptions) -> EngineSession:
    """Always raises UnavailableError: what opens it is Core ML in an application."""
    state = availability()
    reason = state.run_reason or f"{name} is not installed here"
    raise UnavailableError(f"expected an application to open {build.name}: {reason}; {state.run_fix}")


def _batch(source: BuildSource, options: dict[str, str]) -> int:
    """The batch of the program. Raises InputError."""
    unknown = sorted(set(options) - {"batch", "input"})
    if unknown:
        raise InputError(f"expected options of {name} ({OPTIONS}), found {unknown[0]}={options[unknown[0]]}")
    if options.get("input", "array") not in ("array", "image"):
        raise InputError(f"expected options of {name} ({OPTIONS}), found input={options['input']}")
    first = source.onnx.signature.inputs[0].shape[0]
    wanted = options.get("batch", str(first) if isinstance(first, int) else "1")
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InputError(f"expected options of {name} ({OPTIONS}), found batch={wanted}; give at least 1")
    if isinstance(first, int) and int(wanted) != first:
        raise InputError(f"expected the batch {first} that the model was traced with for {name}, found batch={wanted}")
    return int(wanted)


def _pixels(model: FloatModel, batch: int) -> ImagePreprocess:
    """What an image input has to compute itself. Raises InputError for what no image input of Core ML can be."""
    assert isinstance(model.preprocess, ImagePreprocess)
    if batch != 1:
        raise InputError(f"expected batch=1 for {name} with input=image, an image being one sample, found {batch}")
    return model.preprocess
