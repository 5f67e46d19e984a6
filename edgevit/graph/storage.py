"""ONNX files on disk: reading, writing with or without external data, their digests and signatures."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from edgevit.errors import InputError, missing_package
from edgevit.types import OnnxModel, Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

INLINE_LIMIT = 1_800_000_000
"""Bytes of weights up to which one file holds everything; protobuf itself ends at 2 GiB."""


def load(path: Path) -> ir.Model:
    """The graph of an ONNX file; external data stays on disk, memory-mapped, until a tensor is read."""
    try:
        import onnx_ir as ir
    except ModuleNotFoundError as error:
        raise missing_package("onnx-ir", "export", "reading an ONNX graph") from error
    return ir.load(path)


def save(model: ir.Model, path: Path) -> None:
    """Writes the graph; above `INLINE_LIMIT` the weights go into one file `<name>.data` beside it.

    Weights that an earlier graph of that name left there are removed: the digest would count them.
    """
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    beside = weights > INLINE_LIMIT
    ir.save(model, path, external_data=data_path(path).name if beside else None)
    if not beside:
        data_path(path).unlink(missing_ok=True)


def data_path(path: Path) -> Path:
    """Where the external data of the ONNX file `path` lies, if it has any."""
    return path.with_name(f"{path.name}.data")


def copy_onnx(source: Path, destination: Path) -> None:
    """Copies an ONNX file and the external data that belongs to it; both keep their names."""
    if destination.name != source.name and data_path(source).exists():
        raise InputError(f"{source} has external data that is found by name; copy it to a file named {source.name}")
    shutil.copyfile(source, destination)
    if data_path(source).exists():
        shutil.copyfile(data_path(source), data_path(destination))


def describe(model: ir.Model, path: Path) -> OnnxModel:
    """The value that stands for a written ONNX file."""
    signature = Signature(
        inputs=tuple(_tensor_spec(value) for value in model.graph.inputs),
        outputs=tuple(_tensor_spec(value) for value in model.graph.outputs),
    )
    return OnnxModel(path=path, signature=signature, opset=model.opset_imports[""], digest=digest_onnx(path))


def digest_onnx(path: Path) -> str:
    """SHA-256 over the file and its external data."""
    digest = hashlib.sha256()
    for part in (path, data_path(path)):
        if part.exists():
            with part.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()


def _tensor_spec(value: ir.Value) -> TensorSpec:
    shape = () if value.shape is None else value.shape.dims
    dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in shape)
    if value.dtype is None or value.name is None:
        raise InputError(f"expected a typed graph input or output, found {value} without name or type")
    return TensorSpec(name=value.name, dtype=value.dtype.numpy().name, shape=dims)
