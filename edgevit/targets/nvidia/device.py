"""Is there an NVIDIA GPU here, and which one: asked of the driver itself, so that no CUDA package is needed to know."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import msgspec

LIBRARIES = {"win32": "nvcuda.dll"}
DEFAULT_LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
ERRORS = {
    3: "it could not be initialized",
    100: "it shows no GPU",
    101: "it shows no GPU of that number",
    802: "the system is not ready",
    803: "it is older than the CUDA library beside it",
    804: "it does not support this forward-compatible CUDA library",
}
INSTALL = "run it on a machine with an NVIDIA GPU and its driver (nvidia-smi must list the card)"


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """The first GPU, or why there is none."""

    reason: str = ""
    """Empty where there is one."""
    fix: str = ""
    name: str = ""
    architecture: str = ""
    """`sm86`."""
    driver: str = ""
    """The newest CUDA the driver supports, `12.8`."""


def probe(library: Any = None) -> DeviceState:
    """The first GPU as the driver describes it; `library` stands in for libcuda in tests."""
    if library is None:
        path = LIBRARIES.get(sys.platform, DEFAULT_LIBRARY)
        try:
            library = ctypes.CDLL(path)
        except OSError:
            return DeviceState(reason=f"no NVIDIA driver on this machine ({path} is not there)", fix=INSTALL)
    status = library.cuInit(0)
    if status:
        said = ERRORS.get(status, f"it answers with error {status}")
        return DeviceState(reason=f"the NVIDIA driver does not work here: {said}", fix=INSTALL)
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return DeviceState(reason="the NVIDIA driver shows no GPU", fix=INSTALL)
    device, number, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    library.cuDeviceGet(ctypes.byref(device), 0)
    library.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (MAJOR, MINOR):
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(str(number.value))
    library.cuDriverGetVersion(ctypes.byref(number))
    return DeviceState(
        name=name.value.decode(errors="replace"),
        architecture="sm" + "".join(capability),
        driver=f"{number.value // 1000}.{number.value % 1000 // 10}",
    )
