"""What kind of file a checkpoint is, told by its first bytes: a suffix is a habit, not a promise."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from edgevit.errors import CheckpointError

CheckpointFormat = Literal["safetensors", "index", "torch"]

ACCEPTED = "a .safetensors file, a .safetensors.index.json or a state dict written by torch.save (.pt, .pth, .bin)"

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch.save's format from before 1.6 begins: a pickle of the number 0x1950a86a20f9469cfc6c."""


def checkpoint_format(path: Path) -> CheckpointFormat:
    """The format of the file at `path`.

    Raises CheckpointError when there is no such file, when it is empty or cut short, or when it is something else,
    which the message then names.
    """
    head, size = _head(path)
    if path.name.endswith(".index.json"):
        return "index"
    # Before the pickles: a header of 128 bytes begins with 0x80, as they do. safetensors caps the header at 100 MB.
    if head[4:9] == b"\0\0\0\0{":
        header = int.from_bytes(head[:8], "little")
        if 8 + header > size:
            raise damaged(path, f"a header of {header} bytes in {size} bytes")
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head.startswith(_LEGACY_MAGIC):
        return "torch"
    if head.startswith(b"\x80") and not head.startswith(_LEGACY_MAGIC[: len(head)]):
        raise foreign(path, "a Python pickle that torch.save did not write; it was refused, because it could run code")
    if size < len(_LEGACY_MAGIC):
        raise damaged(path, f"only {size} bytes")
    raise foreign(path, _describe(head))


def foreign(path: Path, found: str) -> CheckpointError:
    """The error for a file that is whole but no checkpoint."""
    return CheckpointError(f"expected {ACCEPTED}, found {found}, at {path}; hand in the file with the model's weights")


def damaged(path: Path, found: str) -> CheckpointError:
    """The error for a checkpoint that is cut short or corrupt."""
    return CheckpointError(
        f"expected a complete checkpoint, found a truncated or damaged one ({found}) at {path}; "
        "copy or download it again"
    )


def _head(path: Path) -> tuple[bytes, int]:
    if path.is_dir():
        raise foreign(path, "a directory")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise CheckpointError(f"expected {ACCEPTED}, found no file at {path}; check the path") from error
    except OSError as error:
        raise CheckpointError(
            f"expected a readable checkpoint, found '{error.strerror}' at {path}; check its permissions"
        ) from error
    if not head:
        raise damaged(path, "an empty file")
    return head, size


def _zip_format(path: Path) -> CheckpointFormat:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise damaged(path, f"a ZIP archive whose directory cannot be read: {error}") from error
    members = {name.partition("/")[2] for name in names}
    if {"constants.pkl", "data.pkl"} <= members:
        raise foreign(path, "a TorchScript archive, which holds code and not a state dict")
    if "archive_format" in members:
        raise foreign(path, "a program saved by torch.export, not a state dict")
    if names and all(name.endswith(".npy") for name in names):
        raise foreign(path, "a NumPy .npz archive")
    if "data.pkl" not in members:
        raise foreign(path, "a ZIP archive that torch.save did not write")
    return "torch"


def _describe(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer whose weights were never fetched (git lfs pull)"
    if head.lstrip()[:5].lower() in {b"<!doc", b"<html"}:
        return "a web page, perhaps of a download that failed"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file"
    if head.startswith(b"GGUF"):
        return "a GGUF file"
    # An ONNX ModelProto begins with field 1, ir_version: the tag 0x08 and a small number.
    if head[0] == 0x08 and head[1] < 0x20:
        return "what looks like an ONNX model"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head):
        return "a text file"
    return "a file of an unknown kind"
