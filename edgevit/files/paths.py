"""Digests of files, and paths from a file that cannot leave their directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from edgevit.errors import BundleError

if TYPE_CHECKING:
    from edgevit.errors import EdgevitError


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 lower-case hexadecimal digits, read in chunks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_relative(relative: str, where: Path | str, error: type[EdgevitError] = BundleError) -> None:
    """Raises `error` unless `relative` is a plain path below a directory, in its one spelling, on every system.

    Refused: absolute paths, `.` and `..`, empty parts, backslashes, Windows drives and unprintable characters.
    `where` is the file that names the path.
    """
    plain = relative.isprintable() and "\\" not in relative and not PureWindowsPath(relative).drive
    if not plain or any(part in ("", ".", "..") for part in relative.split("/")):
        raise error(
            f"{str(where)!r} names the path {relative!r}; expected a relative path with forward slashes that stays "
            "inside its directory; do not use this file"
        )


def inside(directory: Path, relative: str, error: type[EdgevitError] = BundleError) -> Path:
    """`directory / relative`, which need not exist; raises `error` where that leads out, by its text or by a link."""
    check_relative(relative, directory, error)
    path = directory / relative
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise error(f"{str(path)!r} is a link that leads out of {str(directory)!r}; replace it by the file itself")
    return path
