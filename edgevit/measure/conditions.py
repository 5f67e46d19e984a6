"""How fast the processor is clocked and how warm it is, where the system says so: what slows a device in its case."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from edgevit.types import Conditions, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu", "soc", "x86_pkg", "acpitz")
"""What the sensors of processors are called, the most exact first: `cpu_thermal` on a Raspberry Pi, `soc_dts` …"""


def read_conditions() -> Reading:
    """The mean clock of all processors and the warmest of their sensors, now; None for what this system hides."""
    try:
        import psutil
    except ImportError:
        return Reading()
    try:
        clock = psutil.cpu_freq()
    except (NotImplementedError, OSError, RuntimeError):  # a kernel without that file, or one that hides it
        clock = None
    mhz = float(clock.current) if clock is not None and clock.current else None
    sensors = getattr(psutil, "sensors_temperatures", None)  # not on macOS and Windows
    found = sensors() if sensors is not None else {}
    return Reading(clock_mhz=mhz, temperature_c=processor_temperature({name: tuple(found[name]) for name in found}))


def processor_temperature(
    sensors: dict[str, tuple[tuple[str, float, float | None, float | None], ...]],
) -> float | None:
    """The warmest reading of the processor's own driver, °C; of a drive or a network card nothing is said.

    `sensors` is psutil's: driver to (label, current, high, critical).
    """
    for wanted in PROCESSOR_SENSORS:
        values = [entry[1] for name, entries in sensors.items() if name.lower().startswith(wanted) for entry in entries]
        real = [float(value) for value in values if value is not None and 0 < value < 150]
        if real:
            return max(real)
    return None


def conditions_of(readings: Sequence[Reading]) -> Conditions | None:
    """Medians of the first and the last third of the rounds; None where the system says nothing."""
    if not readings:
        return None
    third = max(1, len(readings) // 3)
    first, last = _middle(readings[:third]), _middle(readings[-third:])
    return None if Reading() in (first, last) else Conditions(first=first, last=last)


def _middle(readings: Sequence[Reading]) -> Reading:
    clocks = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
    warmth = [reading.temperature_c for reading in readings if reading.temperature_c is not None]
    return Reading(
        clock_mhz=statistics.median(clocks) if clocks else None,
        temperature_c=statistics.median(warmth) if warmth else None,
    )
