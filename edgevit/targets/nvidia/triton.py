"""A model repository for NVIDIA's Triton server, from the builds that its backends open.

DIR/<model>-<target>-<precision>/config.pbtxt
DIR/<model>-<target>-<precision>/1/…            the build's own files

A build of two graphs is two models: …-encoder and …-decoder.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import InputError
from edgevit.files import staged_directory
from edgevit.targets.nvidia.files import ENGINE
from edgevit.targets.nvidia.kit import is_unfinished
from edgevit.targets.nvidia.profiles import stored_profile
from edgevit.types import Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgevit.bundle import Bundle
    from edgevit.types import Build, TensorSpec

TYPES = {
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
}


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    file: str
    kind: str


BACKENDS = {
    "tensorrt": Backend(name="tensorrt", file=ENGINE, kind="KIND_GPU"),
    "onnxruntime": Backend(name="onnxruntime", file="model.onnx", kind="KIND_CPU"),
    "openvino": Backend(name="openvino", file="model.xml", kind="KIND_CPU"),
}


class TritonOptions(Value, frozen=True, kw_only=True):
    max_batch: int = 8
    """Where the build has no profile that says it."""
    instances: int = 1
    """Copies of the model that serve at the same time."""
    queue_microseconds: int = 100
    """How long a request may wait for others to share its batch."""


class TritonRepository(Value, frozen=True, kw_only=True):
    path: str
    models: tuple[str, ...]
    skipped: dict[str, str]
    """Build to the reason it is not in the repository."""


def write_triton(bundle: Bundle, directory: Path, options: TritonOptions | None = None) -> TritonRepository:
    """Writes the repository `directory`, which must not exist. Raises InputError where no build can be served."""
    options = options or TritonOptions()
    skipped = {build.name: why_not_served(build) for build in bundle.manifest.builds}
    served = [build for build in bundle.manifest.builds if not skipped[build.name]]
    if not served:
        raise InputError(
            f"expected a build that Triton serves ({', '.join(BACKENDS)}) in {bundle.root}, found none: "
            + "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        )
    names = []
    with staged_directory(directory) as stage:
        for build in served:
            whole = model_name(bundle.manifest.model, build)
            for part, alone in _alone(build):
                name = f"{whole}-{part}" if part else whole
                shutil.copytree(bundle.directory(build) / part, stage / name / "1")
                (stage / name / "config.pbtxt").write_text(model_config(name, alone, options), encoding="utf-8")
                names.append(name)
    return TritonRepository(
        path=str(directory), models=tuple(names), skipped={name: reason for name, reason in skipped.items() if reason}
    )


def _alone(build: Build) -> Iterator[tuple[str, Build]]:
    """(part, the build of that part alone): an encoder and a decoder are served as two models."""
    for part in build.parts:
        yield part.name, msgspec.structs.replace(build, signature=part.signature, parts=())
    if not build.parts:
        yield "", build


def why_not_served(build: Build) -> str:
    if build.target not in BACKENDS:
        return f"Triton has no backend for {build.target}"
    if is_unfinished(build):
        return "it is a build kit; finish it first with edgevit build"
    if build.verdict == "failed":
        return "it failed parity"
    return ""


def model_name(model: str, build: Build) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}-{build.name}").strip("-.")


def model_config(name: str, build: Build, options: TritonOptions) -> str:
    """The text of config.pbtxt. A dynamic first dimension is Triton's batch; a static model is served as it is."""
    backend = BACKENDS[build.target]
    first = [spec.shape[0] if spec.shape else None for spec in (*build.signature.inputs, *build.signature.outputs)]
    batched = all(isinstance(dim, str) for dim in first)
    largest = 0
    if batched:
        profile = stored_profile(build) if "profile" in build.options else None
        largest = profile.dimensions[str(first[0])].max if profile else options.max_batch
    lines = [f'name: "{name}"', f'backend: "{backend.name}"', f'default_model_filename: "{backend.file}"']
    lines.append(f"max_batch_size: {largest}")
    lines += _tensors("input", build.signature.inputs, batched)
    lines += _tensors("output", build.signature.outputs, batched)
    if largest > 1:
        preferred = ", ".join(str(size) for size in (2, 4, 8, 16, 32, 64) if size <= largest) or str(largest)
        lines += [
            "dynamic_batching {",
            f"  preferred_batch_size: [ {preferred} ]",
            f"  max_queue_delay_microseconds: {options.queue_microseconds}",
            "}",
        ]
    lines += ["instance_group [", f"  {{ count: {options.instances} kind: {backend.kind} }}", "]"]
    return "\n".join(lines) + "\n"


def _tensors(which: str, specs: tuple[TensorSpec, ...], batched: bool) -> list[str]:
    lines = [f"{which} ["]
    for index, spec in enumerate(specs):
        if spec.dtype not in TYPES:
            raise InputError(
                f"expected a tensor type of Triton ({', '.join(TYPES)}) for {spec.name}, found {spec.dtype}"
            )
        shape = spec.shape[1:] if batched else spec.shape
        dims = ", ".join(str(dim) if isinstance(dim, int) else "-1" for dim in shape)
        comma = "," if index < len(specs) - 1 else ""
        lines.append(f'  {{ name: "{spec.name}" data_type: {TYPES[spec.dtype]} dims: [ {dims} ] }}{comma}')
    return [*lines, "]"]
