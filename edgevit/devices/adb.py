"""An Android device that is reached with the platform tools' own `adb`, over USB or the network as that knows it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import msgspec

from edgevit.devices.connection import one_line
from edgevit.errors import EdgevitError, InputError, MeasureError, OutputError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "/data/local/tmp"
"""Where a shell of adb may write and execute; nothing of the system cleans it up."""
INSTALL = "install it (Debian, Ubuntu: sudo apt-get install adb)"
_PATIENCE = 60
"""Seconds for adb to start its server and list what is connected."""
_PUSH_SECONDS = 1800
"""For a gigabyte over a slow cable."""
_STATES = {
    "unauthorized": "unauthorized: unlock it and allow this computer when it asks",
    "authorizing": "still being authorized: allow this computer when it asks, and try again",
    "offline": "offline: plug it in again, or run adb reconnect",
    "no permissions": "not accessible to this user: add it to udev's rules and yourself to the group plugdev",
}
"""What `adb devices` says of one that cannot be used."""
_REASONS = (
    ("no devices/emulators found", "none", "connect one and allow USB debugging in its developer options"),
    ("unauthorized", "one that is unauthorized", "unlock it and allow this computer when it asks"),
    ("still authorizing", "one that is still being authorized", "allow this computer when it asks, and try again"),
    ("device offline", "one that is offline", "plug it in again, or run adb reconnect"),
    ("not found", "that it is gone", "plug it in again, and look at adb devices"),
    ("only supports allocating a pty", "one older than Android 7, whose shell gives no exit status", "use a newer one"),
    ("no permissions", "one that this user may not open", "add it to udev's rules"),
    ("insufficient permissions", "one that this user may not open", "add it to udev's rules"),
    ("cannot connect to daemon", "adb's own server not to be had", "run adb kill-server, then adb devices"),
)
"""What adb writes, in lower case; what was found; what to do. The first that fits counts."""


class AdbDevice(msgspec.Struct, frozen=True, kw_only=True):
    """`serial` as `adb devices` lists it."""

    serial: str
    python: str = ""

    @property
    def name(self) -> str:
        return self.serial

    @property
    def keeps(self) -> bool:
        return False

    def command(self, script: str) -> list[str]:
        # Without a terminal there, so that bytes stay bytes; its shell has no home that can be written to.
        place = f"export HOME={PLACE} TMPDIR={PLACE} XDG_CACHE_HOME={PLACE}"
        return [_adb(), "-s", self.serial, "shell", "-T", f"{place}; exec sh -c {shlex.quote(script)}"]

    def run(self, script: str, seconds: float) -> tuple[int, str]:
        """(exit status, what it printed) of a script there, standard error included. Raises what `explained` makes of
        a device that is gone, MeasureError where nothing comes back within `seconds`."""
        done = self._adb(["shell", "-T", f"{{ {script}\n}} 2>&1"], seconds)
        if done.stderr.lstrip().startswith(("error:", "adb: ")):
            raise self.explained(done.returncode, done.stderr)
        return done.returncode, done.stdout

    def push(self, file: Path, place: str) -> None:
        """Copies a file there. Raises OutputError where the device is full."""
        done = self._adb(["push", str(file), place], _PUSH_SECONDS)
        if done.returncode and "No space left" in done.stderr + done.stdout:
            raise OutputError(f"the disk of {self.name} became full while copying {file.name}; free some space there")
        if done.returncode:
            raise self.explained(done.returncode, done.stderr or done.stdout)

    def _adb(self, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        command = [_adb(), "-s", self.serial, *words]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"expected {self.name} to answer within {seconds:.0f} s, found nothing") from error

    def explained(self, status: int, errors: str) -> EdgevitError:
        lower = errors.lower()
        for text, found, fix in _REASONS:
            if text in lower:
                return UnavailableError(f"expected to reach the device {self.name} with adb, found {found}; {fix}")
        said = one_line(errors) or "and no word"
        return UnavailableError(
            f"expected the device {self.name} to start Python, found exit status {status}: {said}; try: adb -s "
            f"{self.name} shell {self.python or 'python3'} -V"
        )


def adb_device(serial: str = "", python: str = "") -> AdbDevice:
    """The device of that serial number, or the only one that is connected.

    Raises InputError for several of which none was named, UnavailableError without adb, without a device, and for one
    that is not ready.
    """
    states = _states()
    listed = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
    if not states:
        _, found, fix = _REASONS[0]
        raise UnavailableError(f"expected a device that adb knows, found {found}; {fix}")
    if serial and serial not in states:
        raise UnavailableError(f"expected the device {serial!r}, found {listed}; correct --adb, or connect it")
    if not serial and len(states) > 1:
        raise InputError(f"expected one device, or --adb SERIAL, found {listed}; name the one to measure on")
    chosen = serial or next(iter(states))
    state = states[chosen]
    if state != "device":
        reason = next((text for word, text in _STATES.items() if word in state), f"in the state {state!r}")
        raise UnavailableError(f"expected the device {chosen} to be ready, found it {reason}")
    return AdbDevice(serial=chosen, python=python)


def _states() -> dict[str, str]:
    """Serial number to state, of all that adb lists."""
    command = [_adb(), "devices"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"expected adb to list its devices within {_PATIENCE} s, found no answer; run adb kill-server"
        ) from error
    if done.returncode:
        raise UnavailableError(f"expected adb to list its devices, found: {one_line(done.stderr or done.stdout)}")
    lines = [line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line]
    return {name.strip(): state.strip() for name, state in lines}


def _adb() -> str:
    adb = shutil.which("adb")
    if adb is None:
        raise UnavailableError(f"expected the command adb here, found none; {INSTALL}")
    return adb
