"""Core ML, for iPhones, iPads and Macs: an ML program in float16, int8 from the plan, int8 weights and 4-bit palettes.

Facts this file answers to: coremltools converts from torch.export, on Linux too, and executes on macOS only, so a build
is *built, not executed*; the package is therefore read back, and a build whose operators, interface, codes or scales
are not what was asked for is an error. Numbers beside codes are float16 there, the plan's scales as well. A program has
one batch: a flexible one keeps the Neural Engine away; lengths of texts are ranges. It has no empty array, so that a
decoder is two packages: the first tokens, then one after others. 4-bit palettes have one table per 16 output channels,
which needs iOS 18; everything else runs on iOS 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.targets.installed import installed_version, with_exporter
from edgevit.targets.torch_source import check_no_recurrence, has_past, longest_lengths, torch_module
from edgevit.types import Execution, ImagePreprocess

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.apple.interface import Interface
    from edgevit.targets.base import Availability, BuildSource, EngineSession, OpenOptions
    from edgevit.types import Build, FloatModel, Precision

name = "coreml"
device = "Apple"
precisions: tuple[Precision, ...] = ("float16", "int8", "int8w", "int4w")

INSTALL = "pip install 'edgevit[coreml]'"
OPTIONS = (
    "batch=N, the only one it will take; input=array|image, image: 8-bit pixels, normalized inside; "
    "output=array|labels, labels: the best one and the probability of each"
)
FORMS = {"input": ("array", "image"), "output": ("array", "labels")}
PACKAGE = "model.mlpackage"
FIRST = "first.mlpackage"
"""Of a decoder: the first tokens, which have no past."""
LAYERS = "layers.json"
PLANNED = ("int8", "int8w")
NO_LENGTHS = "its operators take no lengths of padded texts"
CLASSIFYING = ("image-classification", "text-classification")


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

    A decoder with a cache gets first.mlpackage beside it. Raises BuildError where coremltools refuses the model or a
    package is not what was asked for, InputError for options that make no sense, for a model that did not come from
    PyTorch and for lengths of which nobody knows the largest.
    """
    batch = _batch(source, options)
    from edgevit.targets.apple.check import check_package
    from edgevit.targets.apple.convert import convert, import_coremltools
    from edgevit.targets.apple.steps import first_step, next_step

    import_coremltools()
    if precision in PLANNED and source.plan is None:
        raise BuildError(f"expected a plan for {name}:{precision}, found none; calibrate first")
    model = torch_module(source, name)
    check_no_recurrence(model, name, NO_LENGTHS)
    packages = {PACKAGE: model}
    if has_past(model.signature):
        packages = {FIRST: first_step(model), PACKAGE: next_step(model)}
    for file, one in packages.items():
        interface = _interface(one, batch, options)
        converted = convert(one, source, precision, interface, out / file)
        found = check_package(out / file, one.signature, precision, converted)
    (out / LAYERS).write_bytes(msgspec.json.format(msgspec.json.encode(found.execution), indent=1) + b"\n")
    used = {"batch": str(batch), **{key: options.get(key, "array") for key in FORMS}, "minimum": found.minimum}
    used["operators"] = ", ".join(f"{count} {operator}" for operator, count in found.operators.items())
    if precision in PLANNED:
        used["int8_layers"] = f"{found.execution.quantized_executed} of {found.execution.quantized_requested}"
    return used | _said_of_texts(model, interface, tuple(packages))


def _said_of_texts(model: FloatModel, interface: Interface, packages: tuple[str, ...]) -> dict[str, str]:
    """What an application must know of a package of texts beside the model's own signature."""
    from edgevit.targets.apple.interface import core_ml_name

    integers = [core_ml_name(spec.name) for spec in model.signature.inputs if spec.dtype == "int64"]
    lengths = [f"{length} 1 to {most}" for length, most in interface.lengths.items()]
    told = {"int32_inputs": ", ".join(integers), "lengths": ", ".join(lengths)}
    told["packages"] = ", ".join(packages) if len(packages) > 1 else ""
    return {key: value for key, value in told.items() if value}


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
    unknown = sorted(set(options) - {"batch", *FORMS})
    if unknown:
        raise InputError(f"expected options of {name} ({OPTIONS}), found {unknown[0]}={options[unknown[0]]}")
    for key, forms in FORMS.items():
        if options.get(key, "array") not in forms:
            raise InputError(f"expected options of {name} ({OPTIONS}), found {key}={options[key]}")
    first = source.onnx.signature.inputs[0].shape[0]
    wanted = options.get("batch", str(first) if isinstance(first, int) else "1")
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InputError(f"expected options of {name} ({OPTIONS}), found batch={wanted}; give at least 1")
    if isinstance(first, int) and int(wanted) != first:
        raise InputError(f"expected the batch {first} that the model was traced with for {name}, found batch={wanted}")
    return int(wanted)


def _interface(model: FloatModel, batch: int, options: dict[str, str]) -> Interface:
    """Raises InputError for what no interface of Core ML can be."""
    from edgevit.targets.apple.interface import Interface

    found = Interface(batch=batch, lengths=longest_lengths(model, name))
    if options.get("input") == "image":
        if not isinstance(model.preprocess, ImagePreprocess):
            raise InputError(f"expected a model of images for {name} with input=image, found {model.name}")
        _check_alone(batch, "input=image, an image being one sample")
        found = msgspec.structs.replace(found, pixels=model.preprocess)
    if options.get("output") == "labels":
        if model.task not in CLASSIFYING or not model.labels:
            raise InputError(f"expected a model that classifies for {name} with output=labels, found {model.name}")
        _check_alone(batch, "output=labels, a label being one sample's")
        found = msgspec.structs.replace(found, labels=model.labels)
    return found


def _check_alone(batch: int, form: str) -> None:
    if batch != 1:
        raise InputError(f"expected batch=1 for {name} with {form}, found {batch}")
