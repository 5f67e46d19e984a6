"""The little of a flatbuffer file that tells what it is: its identifier, and a text of its root table.

A `.ort`, `.pte` or `.tflite` file is a table at an offset that its first four bytes hold, with the file's identifier in
the next four (https://flatbuffers.dev/internals). Engines say of a damaged or foreign one little more than that they
failed; this reads what makes a useful message, without a package and without trusting an offset.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgevit.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

IDENTIFIER = slice(4, 8)


def read_identified(path: Path, identifier: str, kind: str, doubt: str) -> bytes:
    """The content of a file that has to begin as `kind` does; `doubt` is what else it may be.

    Raises BundleError where it cannot be read, or where its first bytes already say that it is none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"expected {path}, which cannot be read: {error.strerror}; export it again") from error
    found = file_identifier(content)
    if found != identifier:
        raise BundleError(
            f"expected {kind} at {path} (identifier {identifier}), found {repr(found) if found else 'none'}; it is "
            f"{doubt}, export it again"
        )
    return content


def file_identifier(content: bytes) -> str:
    """The four characters that name the schema; empty where the file is too short or they are no text."""
    return _text(content[IDENTIFIER]) if len(content) >= IDENTIFIER.stop else ""


def root_text(content: bytes, field: int) -> str:
    """The text in the root table's field number `field`; empty where there is none, or where an offset leaves the file.

    A table begins with the signed distance back to its layout: sizes, then one 16-bit offset per field, 0 for absent.
    """
    try:
        (table,) = struct.unpack_from("<I", content, 0)
        (back,) = struct.unpack_from("<i", content, table)
        layout = table - back
        if layout < 0:
            return ""
        (size,) = struct.unpack_from("<H", content, layout)
        entry = 4 + 2 * field
        if entry + 2 > size:
            return ""
        (offset,) = struct.unpack_from("<H", content, layout + entry)
        if offset == 0:
            return ""
        (distance,) = struct.unpack_from("<I", content, table + offset)
        start = table + offset + distance
        (length,) = struct.unpack_from("<I", content, start)
    except struct.error:
        return ""
    return _text(content[start + 4 : start + 4 + length]) if start + 4 + length <= len(content) else ""


def _text(part: bytes) -> str:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""
