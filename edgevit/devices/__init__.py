"""Devices that a bundle is measured on from here: how they are reached, and what has to be there first.

A device needs an SSH server and Python 3.11; it gets a virtual environment with edgevit and one runtime wheel, which
stays, and a workplace, which does not. An Android device is reached with adb, and keeps nothing.
"""

from edgevit.devices.adb import PLACE, AdbDevice, adb_device
from edgevit.devices.connection import Connection, RefusalError, Transport, one_line
from edgevit.devices.environment import copy, explained, prepare
from edgevit.devices.packages import RUNTIMES, Needs, needs_of, why_not_there
from edgevit.devices.runners import Runner, find_runner
from edgevit.devices.ssh import SshHost
from edgevit.devices.wheel import write_wheel

__all__ = [
    "PLACE",
    "RUNTIMES",
    "AdbDevice",
    "Connection",
    "Needs",
    "RefusalError",
    "Runner",
    "SshHost",
    "Transport",
    "adb_device",
    "copy",
    "explained",
    "find_runner",
    "needs_of",
    "one_line",
    "prepare",
    "why_not_there",
    "write_wheel",
]
