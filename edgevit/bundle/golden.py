"""`golden.npz`: a few inputs and the float reference's outputs, for the self-test on a device."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from edgevit.bundle.manifest import one_line
from edgevit.errors import BundleError
from edgevit.files import write_atomic
from edgevit.types import PIXELS

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.types import Arrays, Build

GOLDEN = "golden.npz"
_LARGEST = 1 << 30
"""Bytes, unpacked: sixteen images of 384 x 384 and their outputs are under thirty million."""
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, NotImplementedError)
"""What NumPy raises, depending on which byte of an archive is wrong."""


def write_golden(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Writes named arrays, batch first; the same arrays give the same bytes.

    Raises OutputError where the disk refuses, ValueError for an array of Python objects.
    """
    import numpy as np

    arrays = {f"inputs/{name}": array for name, array in inputs.items()}
    arrays |= {f"outputs/{name}": array for name, array in outputs.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def inputs_of(build: Build, inputs: Arrays) -> Arrays:
    """Those of the golden inputs that a build takes: prepared tensors, or raw pixels."""
    return {name: array for name, array in inputs.items() if (name == PIXELS) == build.takes_pixels}


def read_golden(path: Path) -> tuple[Arrays, Arrays]:
    """(inputs, outputs) by tensor name. Raises BundleError where the file is missing, damaged or another kind."""
    import zipfile
    import zlib

    import numpy as np

    inputs: Arrays = {}
    outputs: Arrays = {}
    parts = {"inputs": inputs, "outputs": outputs}
    try:
        with np.load(path, allow_pickle=False) as archive:
            unpacked = sum(entry.file_size for entry in archive.zip.infolist())
            if unpacked > _LARGEST:
                raise ValueError(f"it unpacks to {unpacked} bytes, expected at most {_LARGEST}")
            for key in archive.files:
                part, _, name = key.partition("/")
                parts[part][name] = archive[key]
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(
            f"{str(path)!r} cannot be read as golden inputs: {one_line(error)}; copy or export the bundle again"
        ) from error
    if not inputs or not outputs:
        raise BundleError(f"{str(path)!r} holds no golden inputs or no outputs; export the bundle again")
    return inputs, outputs
