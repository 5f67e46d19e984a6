"""Asking the driver, with a library that answers as libcuda does."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from edgevit.targets.nvidia.device import probe


class Driver:
    """libcuda with one RTX 4090, or broken as told."""

    def __init__(self, init: int = 0, count: int = 1) -> None:
        self.init, self.count = init, count

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own name
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA GeForce RTX 4090"
        return 0

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:  # noqa: N802
        number._obj.value = {75: 8, 76: 9}[attribute]
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 12080
        return 0


def test_a_card_is_described() -> None:
    state = probe(Driver())
    assert (state.reason, state.name, state.architecture, state.driver) == (
        "",
        "NVIDIA GeForce RTX 4090",
        "sm89",
        "12.8",
    )


@pytest.mark.parametrize(
    ("driver", "reason"),
    [(Driver(init=100), "shows no GPU"), (Driver(init=999), "error 999"), (Driver(count=0), "shows no GPU")],
)
def test_a_driver_without_a_card_says_why(driver: Driver, reason: str) -> None:
    state = probe(driver)
    assert reason in state.reason
    assert "nvidia-smi" in state.fix


def test_no_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise OSError(f"{path}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert "no NVIDIA driver on this machine" in probe().reason
