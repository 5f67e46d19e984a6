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

INLINE_LIMIT = 16_000_000
"""Bytes of weights up to which one file holds everything. Weights beside the graph are memory-mapped by every reader;
inside it they are copied by each, twice while protobuf is at work (a ViT-B session: 0.8 GB against 1.4 GB)."""
ONE_FILE_LIMIT = 500_000_000
"""The same for a file that leaves the pipeline and is easier to handle alone. A ViT-L in one file takes three times its
size to write and twice to open, beside the graph a tenth and once; protobuf itself ends at 2 GiB."""
PAGE = 4096
"""Weights beside the graph begin on a page each, so that every reader may map them as they are."""


def load(path: Path) -> ir.Model:
    """The graph of an ONNX file, whose external data stay on disk: they are mapped each time a tensor is read, and no
    longer than its array is in use. The files must stay as they are while the graph is.
    """
    try:
        import onnx_ir as ir
    except ModuleNotFoundError as error:
        raise missing_package("onnx-ir", "export", "reading an ONNX graph") from error
    graph = ir.load(path)
    for value in graph.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _mapped_when_read(value.const_value)
    return graph


def _mapped_when_read(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    """An external tensor keeps its pages once it was read; a new one for every reading lets go of them."""
    import onnx_ir as ir

    def mapped() -> ir.ExternalTensor:
        return ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name or "",
            base_dir=tensor.base_dir,
        )

    return ir.LazyTensor(mapped, tensor.dtype, tensor.shape, name=tensor.name)


def save(model: ir.Model, path: Path, inline_limit: int | None = None) -> None:
    """Writes the graph; more bytes of weights than `inline_limit` (absent: `INLINE_LIMIT`) go into `<name>.data` beside
    it, one after the other, so that what is computed when it is read never exists as a whole.

    Weights that an earlier graph of that name left there are removed: the digest would count them.
    """
    import onnx_ir as ir

    beside = weight_bytes(model) > (INLINE_LIMIT if inline_limit is None else inline_limit)
    if beside:
        ir.save(model, path, external_data=data_path(path).name, alignment=PAGE, align_threshold=PAGE)
    else:
        ir.save(model, path)
        data_path(path).unlink(missing_ok=True)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


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
