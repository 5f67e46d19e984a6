"""The `.pte` file: what its first bytes say, so that a damaged or foreign one is named before the engine maps it.

After the flatbuffer's identifier comes a header of its own: `eh00`, its length, then the sizes of the program and of
the weights behind it (executorch/schema/extended_header.h). The engine does not compare them with the file's size.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgevit.errors import BundleError
from edgevit.targets.flatbuffer import file_identifier

if TYPE_CHECKING:
    from pathlib import Path

IDENTIFIER = "ET12"
MAGIC = b"eh00"
HEADER = struct.Struct("<4sIQQQ")
HEADER_AT = 8
HEAD = HEADER_AT + HEADER.size


def check_program(path: Path) -> None:
    """Raises BundleError for what is missing, truncated, foreign or of another version of the schema."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"expected {path}, which cannot be read: {error.strerror}; export it again") from error
    found = file_identifier(head)
    if found != IDENTIFIER:
        is_other_version = found.startswith(IDENTIFIER[:2])
        what = f"schema {found}" if is_other_version else (repr(found) if found else "no identifier")
        raise BundleError(
            f"expected an ExecuTorch program of schema {IDENTIFIER} at {path}, found {what}; "
            f"{'it needs another version of executorch' if is_other_version else 'it is damaged or no .pte file'}, "
            "export it again"
        )
    expected = _expected_size(head)
    if expected > size:
        raise BundleError(f"expected {expected} bytes of {path} by its own header, found {size}; export it again")


def _expected_size(head: bytes) -> int:
    """The size the header promises; 0 for a file without this header, which the engine then judges alone."""
    if len(head) < HEAD:
        return HEAD
    magic, _, program, segments_at, segments = HEADER.unpack_from(head, HEADER_AT)
    if magic != MAGIC:
        return 0
    return int(segments_at + segments if segments_at else program)
