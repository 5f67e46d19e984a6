from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from edgevit.measure.conditions import conditions_of, processor_temperature, read_conditions
from edgevit.types import Conditions, Reading


def test_the_processor_and_not_the_drive_is_warm() -> None:
    sensors = {
        "nvme": (("Composite", 88.0, None, None),),
        "cpu_thermal": (("", 61.5, None, None), ("", 64.0, 85.0, None)),
    }
    assert processor_temperature(sensors) == 64.0
    assert processor_temperature({**sensors, "coretemp": (("Package id 0", 55.0, 80.0, 100.0),)}) == 55.0
    assert processor_temperature({"nvme": sensors["nvme"]}) is None
    # A sensor that is switched off reads as nothing, or as absurdly much.
    assert processor_temperature({"k10temp": (("Tctl", 0.0, None, None), ("Tdie", 65535.0, None, None))}) is None


def test_first_and_last_third_are_kept() -> None:
    warming = [Reading(clock_mhz=2400 - 100 * step, temperature_c=50.0 + step) for step in range(9)]
    assert conditions_of(warming) == Conditions(
        first=Reading(clock_mhz=2300, temperature_c=51.0), last=Reading(clock_mhz=1700, temperature_c=57.0)
    )
    assert conditions_of([Reading()] * 9) is None
    assert conditions_of([]) is None
    (only,) = [conditions_of([Reading(temperature_c=40.0)])]
    assert only is not None and only.first == only.last == Reading(temperature_c=40.0)


def test_what_the_system_tells_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=1800.0))
    entry = SimpleNamespace(label="", current=71.0, high=None, critical=None)
    fake = {"soc_dts0": [(entry.label, entry.current, entry.high, entry.critical)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: fake, raising=False)
    assert read_conditions() == Reading(clock_mhz=1800.0, temperature_c=71.0)


@pytest.mark.parametrize("error", [NotImplementedError, FileNotFoundError])
def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refuse() -> Any:
        raise error("no cpufreq here")

    monkeypatch.setattr(psutil, "cpu_freq", refuse)
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert read_conditions() == Reading()
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert read_conditions() == Reading()
