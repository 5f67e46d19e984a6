"""ONNX Runtime Mobile: the model as `.ort` for ARM, and the list of operators that a minimal build of it needs.

Facts this file answers to: a `.ort` is optimized when it is made and never again, so the rules are those for the
device; for ARM that means int8 activations stay signed and no blocked layouts (Nchwc), which are one x86-64
processor's. Its reader takes only the versions of the format that it knows. The full onnxruntime executes it as well:
parity is measured on the file that is shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import BuildError, InputError
from edgevit.targets import onnxruntime
from edgevit.targets.flatbuffer import read_identified, root_text
from edgevit.targets.onnxruntime import (
    UNWANTED,
    OnnxRuntimeSession,
    import_onnxruntime,
    prepare,
    why_not,
    write_optimized,
)

if TYPE_CHECKING:
    from edgevit.targets.base import Availability, BuildSource, OpenOptions
    from edgevit.types import Build, Precision

__all__ = ["availability", "build", "name", "open", "pixels", "precisions", "why_not"]

name = "ort-mobile"
precisions: tuple[Precision, ...] = ("float32", "int8")
pixels = onnxruntime.pixels

MODEL = "model.ort"
CONFIG = "required_operators_and_types.config"
"""Read by ONNX Runtime's build.py: --include_ops_by_config FILE [--enable_reduced_operator_type_support]."""
IDENTIFIER = "ORTM"
FORMAT_VERSION = 0
"""The root table's field with the version of the format."""
LAYOUTS_OF_X86 = ("NchwcTransformer",)
LARGEST = 2 << 30
"""Bytes of a flatbuffer, whose offsets are 32 bits with a sign."""


def availability() -> Availability:
    """Where onnxruntime is, so is this: its wheel writes and reads the format."""
    return onnxruntime.availability()


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.ort, and beside it the operators and types that it needs.

    Takes no options. Raises BuildError where ONNX Runtime refuses the graph or the model exceeds the format's 2 GB.
    """
    if options:
        raise InputError(f"expected no options of {name}, found {', '.join(f'{k}={v}' for k, v in options.items())}")
    import_onnxruntime(name)
    prepared = out / "prepared.onnx"
    opset = prepare(source, precision, prepared, name)
    weights = sum(part.stat().st_size for part in out.glob("prepared.onnx*"))
    if weights >= LARGEST:
        raise BuildError(
            f"expected a model below 2 GB for {name}, the most its format holds, found {weights / 1e9:.1f} GB; "
            "build a narrower precision or onnxruntime"
        )
    _convert(prepared, out / MODEL, (*LAYOUTS_OF_X86, *(UNWANTED if precision == "int8" else ())))
    for part in out.glob("prepared.onnx*"):
        part.unlink()
    _write_config(out / MODEL, out / CONFIG)
    return {"target_platform": "arm", "format": _format_version(out / MODEL), "opset": str(opset)}


def open(directory: Path, build: Build, options: OpenOptions) -> OnnxRuntimeSession:
    """Opens a build of this target in onnxruntime. Raises BundleError for what is truncated or of another version."""
    import_onnxruntime(name)
    kind = "a model in ONNX Runtime's own format"
    read_identified(directory / MODEL, IDENTIFIER, kind, "damaged or no .ort file")  # ORT would give less of a reason
    return OnnxRuntimeSession(directory, build, options, MODEL)


def _convert(path: Path, destination: Path, without: tuple[str, ...]) -> None:
    """What `onnxruntime.tools.convert_onnx_models_to_ort --target_platform arm` does, without the rules `without`."""
    ort = import_onnxruntime(name)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(destination)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    write_optimized(path, options, without)


def _write_config(model: Path, path: Path) -> None:
    """The operators of `model` by domain and opset, with the types each is used with."""
    import logging

    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)  # it says on the terminal what it has written
    create_config_from_models([model], path, True)
    lines = path.read_text().splitlines()
    # Its comments name the file by its path on the machine that made it.
    listed = [line for line in lines if line and not line.startswith("#")]
    heading = f"# What {MODEL} needs of a minimal build: build.py --minimal_build --include_ops_by_config {path.name}"
    path.write_text("\n".join([f"{heading} --enable_reduced_operator_type_support", *listed, ""]))


def _format_version(path: Path) -> str:
    return root_text(path.read_bytes(), FORMAT_VERSION)
