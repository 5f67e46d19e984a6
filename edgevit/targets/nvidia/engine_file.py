"""The first 64 bytes of a serialized engine. Nothing but a GPU can deserialize one; the header can be read anywhere.

As TensorRT-RTX 1.7.1 writes it (little endian, found by comparing engines of every architecture):

    0   4 bytes   "vtrt"
    16  u64       size of the whole file
    24  4 bytes   version, one byte for each of major, minor, patch, build
    32  u64       architectures, one bit each in the order of `architectures.RTX`
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BundleError, UnavailableError
from edgevit.targets.nvidia.architectures import RTX

if TYPE_CHECKING:
    from pathlib import Path

HEADER = 64
MAGIC = b"vtrt"


class EngineHeader(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    size: int
    architectures: tuple[str, ...]


def read_header(path: Path) -> EngineHeader:
    """The header of the RTX engine at `path`.

    Raises BundleError for what is no engine of TensorRT-RTX or is cut short.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEADER)
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"expected an engine at {path}, which cannot be read: {error.strerror}") from error
    header = parse_header(head, str(path))
    if header.size != size:
        raise BundleError(
            f"expected an engine of {header.size} bytes at {path}, found {size} bytes: it is truncated or changed; "
            "export or copy it again"
        )
    return header


def parse_header(head: bytes, where: str) -> EngineHeader:
    if len(head) < HEADER or head[:4] != MAGIC:
        raise BundleError(
            f"expected an engine of TensorRT-RTX ({HEADER} bytes beginning with {MAGIC.decode()}) at {where}, found "
            f"{len(head)} bytes beginning with {head[:4]!r}; export it again"
        )
    (size,) = struct.unpack_from("<Q", head, 16)
    (mask,) = struct.unpack_from("<Q", head, 32)
    found = tuple(name for bit, name in enumerate(RTX) if mask >> bit & 1)
    return EngineHeader(version=".".join(map(str, head[24:28])), size=size, architectures=found)


def check_built(path: Path, version: str, architectures: tuple[str, ...]) -> EngineHeader:
    """The header, compared with what was asked of the builder. Raises BundleError where it differs."""
    header = read_header(path)
    if (header.version, header.architectures) != (version, architectures):
        raise BundleError(
            f"expected {path.name} of version {version} for {', '.join(architectures)}, its header says "
            f"{header.version} for {', '.join(header.architectures) or 'no card'} "
            "(another version of TensorRT-RTX writes another header)"
        )
    return header


def check_loadable(header: EngineHeader, version: str, architecture: str, name: str) -> None:
    """Raises UnavailableError where the runtime's version or the card does not fit the engine, saying what would."""
    if header.version != version:
        raise UnavailableError(
            f"expected TensorRT-RTX {header.version} for {name}, found {version}; run: pip install "
            f"tensorrt-rtx-cu12-libs=={header.version} tensorrt-rtx-cu12-bindings=={header.version}, or open it with "
            "rebuild=True"
        )
    if architecture not in header.architectures:
        raise UnavailableError(
            f"expected a card of {', '.join(header.architectures)} for {name}, found {architecture}; export it with "
            f"gpu={architecture}, or open it with rebuild=True"
        )
