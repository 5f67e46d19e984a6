"""DLPack capsules, read from NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.targets.nvidia.dlpack import device_array, on_device


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_address_shape_and_type(dtype: str) -> None:
    array = np.ones((2, 3, 4), dtype)
    found = device_array("x", array)
    assert (found.pointer, found.shape, found.dtype) == (array.ctypes.data, (2, 3, 4), dtype)


def test_a_part_begins_where_it_lies() -> None:
    array = np.zeros((4, 3), np.float32)
    assert device_array("x", array[2:]).pointer == array.ctypes.data + 24


def test_strides_are_refused() -> None:
    with pytest.raises(InputError, match=r"contiguous array on the device for input 'x', found strides \(1, 3\)"):
        device_array("x", np.zeros((4, 3), np.float32).T[:, :])
    assert device_array("x", np.zeros((1, 3), np.float32)[:, :]).shape == (1, 3)


def test_what_lies_on_the_host_is_not_on_the_device() -> None:
    assert not on_device(np.zeros(3))
    assert not on_device([1, 2, 3])
