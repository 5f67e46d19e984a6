"""Calibration statistics as one NumPy archive (.npz): a JSON header and plain arrays, never pickles.

The header carries the digests of the model and of the set that the statistics belong to, so that stale ones are
refused, and a digest over all content, so that damaged ones are. Layers that read the same tensor share its arrays,
in the file as in memory.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import InputError, StaleError
from edgevit.files import staged_file
from edgevit.types import CalibrationStats, ChannelStats, Value

if TYPE_CHECKING:
    from edgevit.types import Arrays

SCHEMA = 1

_ARRAYS = {
    "histogram": ("int64", 1),
    "channel_max": ("float32", 1),
    "channel_mean": ("float64", 1),
    "channel_power": ("float64", 1),
    "rows": ("float32", 2),
}
"""The arrays of a `ChannelStats`, with their dtype and number of axes."""


_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(ValueError, KeyError, IndexError, TypeError, SyntaxError),  # NumPy's and msgspec's, for content that is altered
    RuntimeError,  # zipfile's, for an encrypted member or an unknown compression
)


class _Tensor(Value, frozen=True, kw_only=True):
    """The numbers of a `ChannelStats`; its arrays are `<position>.<name>` in the archive."""

    low: float
    high: float
    limit: float
    count: int


class _Header(Value, frozen=True, kw_only=True):
    schema: int
    model_digest: str
    set_digest: str
    set_name: str
    samples: int
    seed: int
    digest: str
    layers: dict[str, int]
    """Parameter name to position in `tensors`."""
    tensors: list[_Tensor]
    outputs: dict[str, tuple[float, float]]


def statistics_digest(stats: CalibrationStats) -> str:
    """SHA-256 over everything in the statistics, 64 hexadecimal digits; neither order nor sharing of layers counts."""
    known: dict[int, str] = {}
    layers = []
    for name in sorted(stats.inputs):
        tensor = stats.inputs[name]
        if id(tensor) not in known:
            known[id(tensor)] = _tensor_digest(tensor)
        layers.append((name, known[id(tensor)]))
    origin = (stats.model_digest, stats.set_digest, stats.set_name, stats.samples, stats.seed)
    return hashlib.sha256(msgspec.json.encode((origin, layers, sorted(stats.outputs.items())))).hexdigest()


def save_statistics(stats: CalibrationStats, path: Path) -> CalibrationStats:
    """Writes the statistics to `path`, whole or not at all; returns them with their digest. Raises OutputError."""
    stats = msgspec.structs.replace(stats, digest=statistics_digest(stats))
    positions: dict[int, int] = {}
    tensors: list[ChannelStats] = []
    for tensor in stats.inputs.values():
        if id(tensor) not in positions:
            positions[id(tensor)] = len(tensors)
            tensors.append(tensor)
    header = _Header(
        schema=SCHEMA,
        model_digest=stats.model_digest,
        set_digest=stats.set_digest,
        set_name=stats.set_name,
        samples=stats.samples,
        seed=stats.seed,
        digest=stats.digest,
        layers={name: positions[id(tensor)] for name, tensor in stats.inputs.items()},
        tensors=[_Tensor(low=one.low, high=one.high, limit=one.limit, count=one.count) for one in tensors],
        outputs=stats.outputs,
    )
    arrays: Arrays = {"header": np.frombuffer(msgspec.json.encode(header), np.uint8)}
    for position, tensor in enumerate(tensors):
        for name, (dtype, _) in _ARRAYS.items():
            arrays[f"{position}.{name}"] = np.asarray(getattr(tensor, name), dtype=dtype)
    with staged_file(path) as stage, stage.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return stats


def load_statistics(path: Path, model_digest: str | None = None, set_digest: str | None = None) -> CalibrationStats:
    """The statistics in the file at `path`.

    With `model_digest` or `set_digest`, statistics of another model or set are a StaleError that says which. A file
    that is missing, truncated, altered or something else is an InputError.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise zipfile.BadZipFile("it is no archive")
            header = _header(archive["header"].tobytes(), path)
            _check_fresh(header, path, model_digest, set_digest)
            tensors = [_tensor(archive, position, header.tensors[position]) for position in range(len(header.tensors))]
            inputs = {name: tensors[position] for name, position in header.layers.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: expected calibration statistics, found no file: run the calibration first") from None
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error
    stats = CalibrationStats(
        model_digest=header.model_digest,
        set_digest=header.set_digest,
        set_name=header.set_name,
        samples=header.samples,
        seed=header.seed,
        inputs=inputs,
        outputs=header.outputs,
        digest=header.digest,
    )
    if statistics_digest(stats) != header.digest:
        raise _damaged(path, "its content does not have the digest that it states")
    return stats


def _header(content: bytes, path: Path) -> _Header:
    schema = msgspec.json.decode(content, type=dict)["schema"]
    if schema != SCHEMA:
        raise InputError(f"{path}: expected calibration statistics of schema {SCHEMA}, got {schema}: calibrate again")
    return msgspec.json.decode(content, type=_Header)


def _check_fresh(header: _Header, path: Path, model_digest: str | None, set_digest: str | None) -> None:
    advice = "calibrate again, or give the one that they were made with"
    if model_digest is not None and model_digest != header.model_digest:
        raise StaleError(
            f"{path}: expected statistics of the model with digest {model_digest[:12]}, "
            f"got those of another model ({header.model_digest[:12]}): {advice}"
        )
    if set_digest is not None and set_digest != header.set_digest:
        raise StaleError(
            f"{path}: expected statistics of the calibration set with digest {set_digest[:12]}, "
            f"got those of '{header.set_name}' ({header.set_digest[:12]}): {advice}"
        )


def _tensor(archive: np.lib.npyio.NpzFile, position: int, numbers: _Tensor) -> ChannelStats:
    arrays: Arrays = {name: archive[f"{position}.{name}"] for name in _ARRAYS}
    channels = arrays["channel_max"].size
    for name, (dtype, axes) in _ARRAYS.items():
        array = arrays[name]
        fits = name == "histogram" or array.shape[-1:] == (channels,)
        if array.dtype != dtype or array.ndim != axes or not fits:
            raise ValueError(f"array '{position}.{name}' is {array.dtype} of shape {array.shape}")
    return ChannelStats(low=numbers.low, high=numbers.high, limit=numbers.limit, count=numbers.count, **arrays)


def _tensor_digest(tensor: ChannelStats) -> str:
    digest = hashlib.sha256(msgspec.json.encode((tensor.low, tensor.high, tensor.limit, tensor.count)))
    for name, (dtype, _) in _ARRAYS.items():
        array = np.ascontiguousarray(getattr(tensor, name), dtype=dtype)
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: expected calibration statistics, got a file that is damaged or something else "
        f"({' '.join(reason.split())}): delete it and calibrate again"
    )
