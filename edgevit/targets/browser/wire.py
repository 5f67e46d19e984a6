"""What a session and the page that executes it say to each other: a header as JSON, and tensors as their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from edgevit.types import Arrays

_LENGTH = 4
"""Bytes of the header's length, little-endian."""


class WireTensor(msgspec.Struct, frozen=True):
    """A tensor whose `size` bytes follow the header, little-endian and without gaps."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A job of the session (`run`, `image`, `loop`, `step`, `select`, `free`) or the page's answer to it (`ready`,
    `result`, `error`)."""

    kind: str
    graph: str = ""
    loop: int = 0
    fed: dict[str, str] = {}
    rows: tuple[int, ...] = ()
    constant: bool = False
    text: str = ""
    """What an error says; of `ready` the browser's name for itself."""
    tensors: tuple[WireTensor, ...] = ()


def pack(header: Header, arrays: Arrays | None = None, rest: bytes = b"") -> bytes:
    """One message; `rest` are bytes that are no tensor."""
    solid = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    listed = tuple(WireTensor(name, str(array.dtype), array.shape, array.nbytes) for name, array in solid.items())
    text = msgspec.json.encode(msgspec.structs.replace(header, tensors=listed))
    return b"".join((len(text).to_bytes(_LENGTH, "little"), text, *(array.tobytes() for array in solid.values()), rest))


def unpack(message: bytes) -> tuple[Header, Arrays]:
    begin = _LENGTH + int.from_bytes(message[:_LENGTH], "little")
    header = msgspec.json.decode(message[_LENGTH:begin], type=Header)
    arrays: Arrays = {}
    for one in header.tensors:
        values = np.frombuffer(message[begin : begin + one.size], one.dtype)
        arrays[one.name] = values.reshape(one.shape).copy()
        begin += one.size
    return header, arrays
