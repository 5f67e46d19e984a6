"""Arrays that are already on the device: their address and shape, by the DLPack protocol, without a copy.

The layout is that of DLPack 0.x, which NumPy, torch, CuPy and JAX hand out when asked for no newer version.
"""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec

from edgevit.errors import InputError

HOST, CUDA, PINNED = 1, 2, 3
KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class DeviceArray(msgspec.Struct, frozen=True, kw_only=True):
    """Where an array lies; `capsule` keeps it alive."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    capsule: Any


def on_device(array: Any) -> bool:
    """Whether an array lies in the memory of a CUDA device."""
    ask = getattr(array, "__dlpack_device__", None)
    return ask is not None and int(ask()[0]) == CUDA


def device_array(name: str, array: Any, stream: int | None = None) -> DeviceArray:
    """The array's place. `stream` is the one that will read it; its producer then waits for what is pending.

    Raises InputError for an array that is not contiguous.
    """
    capsule = array.__dlpack__() if stream is None else array.__dlpack__(stream=stream)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(get(capsule, b"dltensor"))
    shape = tuple(tensor.shape[index] for index in range(tensor.dimensions))
    strides = tuple(tensor.strides[index] for index in range(tensor.dimensions)) if tensor.strides else None
    if strides is not None and not _contiguous(shape, strides):
        raise InputError(f"expected a contiguous array on the device for input {name!r}, found strides {strides}")
    dtype = f"{KINDS.get(tensor.dtype.code, 'unknown')}{tensor.dtype.bits}".replace("bool8", "bool")
    return DeviceArray(pointer=(tensor.data or 0) + tensor.offset, shape=shape, dtype=dtype, capsule=capsule)


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    wanted = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != wanted:
            return False
        wanted *= size
    return True
