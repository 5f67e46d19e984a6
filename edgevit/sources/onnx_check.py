"""Whether an ONNX file can be trusted to be what it says, before any engine reads it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

OPERATOR_DOMAINS = {"", "ai.onnx", "com.microsoft"}
"""Those whose operators ONNX Runtime, the reference, executes."""
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinear")


class CheckedOnnx(msgspec.Struct, frozen=True, kw_only=True):
    proto: Any
    """`onnx.ModelProto`; external data is not loaded."""
    quantizers: int
    digest: str
    """SHA-256 over the file and its external data."""


def check_onnx(path: Path) -> CheckedOnnx:
    """Reads the graph and looks where its data lies and which operators it has.

    Raises CheckpointError, in one line, for no file, damage, external data that is missing, too short or outside the
    file's directory, operators without a definition, and weights that are not float32.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError as error:
        raise CheckpointError(f"expected an ONNX file at {path}, found none; check the path") from error
    except (DecodeError, OSError, ValueError) as error:
        raise CheckpointError(
            f"expected an ONNX file at {path}, found: {_line(error)}; export or copy it again"
        ) from error
    if not proto.graph.node or not proto.opset_import:
        raise CheckpointError(f"expected an ONNX file at {path}, found no graph in it; export or copy it again")
    files = _external_files(proto, path)
    _check_operators(proto, path)
    _check_types(proto, path)
    quantizers = sum(node.op_type.startswith(QUANTIZERS) for node in _nodes(proto.graph))
    return CheckedOnnx(proto=proto, quantizers=quantizers, digest=_digest([path, *files]))


def _external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    files: dict[Path, None] = {}
    root = path.parent.resolve()
    for tensor in _tensors(proto.graph):
        if not tensor.external_data:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location = entry.get("location", "")
        file = root / location
        if not location or "\\" in location or not file.resolve().is_relative_to(root) or file.resolve() == root:
            raise CheckpointError(
                f"expected the data of '{tensor.name}' beside {path}, found the location '{location}', which leads "
                "outside its directory; it was not read"
            )
        if not file.is_file():
            raise CheckpointError(
                f"expected the data of '{tensor.name}' in {file}, found no file; copy it beside the .onnx"
            )
        end = _number(entry.get("offset", "0")) + _number(entry.get("length", "0"))
        if end > file.stat().st_size:
            raise CheckpointError(
                f"expected {end} bytes in {file} for '{tensor.name}', found {file.stat().st_size}; copy it again"
            )
        files[file] = None
    return sorted(files)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _check_operators(proto: onnx.ModelProto, path: Path) -> None:
    from onnx import defs

    local = {(function.domain, function.name) for function in proto.functions}
    unknown: dict[str, None] = {}
    for node in _nodes(proto.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        known = domain == "com.microsoft" or (domain in OPERATOR_DOMAINS and defs.has(node.op_type, domain))
        if not known and (node.domain, node.op_type) not in local:
            unknown[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] = None
    if unknown:
        raise CheckpointError(
            f"expected standard ONNX operators in {path}, found {', '.join(sorted(unknown)[:5])}; export the model "
            "without them"
        )


def _check_types(proto: onnx.ModelProto, path: Path) -> None:
    from onnx import TensorProto

    half = [
        initializer.name
        for initializer in proto.graph.initializer
        if initializer.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    ]
    if half:
        raise CheckpointError(
            f"expected float32 weights in {path}, found {len(half)} in half precision ({half[0]}, …); export the model "
            "in float32, because everything is compared with that"
        )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
