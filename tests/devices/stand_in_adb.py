#!/usr/bin/env python3
"""An `adb` whose devices are folders: what the real one prints, and the statuses that it ends with.

EDGEVIT_TEST_ADB is a folder with `devices`, a line "SERIAL<tab>STATE" for each, and for each a folder of its files;
`/data/local/tmp` in a command becomes that folder. As the real one it writes errors to standard error, passes a
command's input, outputs and exit status on (`shell -T`), and ends what runs there when it is killed itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["EDGEVIT_TEST_ADB"])
REFUSED = {
    "unauthorized": "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server' if "
    "that seems wrong.\nOtherwise check for a confirmation dialog on your device.",
    "offline": "device offline",
    "authorizing": "device still authorizing",
}


def fail(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1


def shell(folder: Path, words: list[str]) -> int:
    options = [word for word in words if word.startswith("-")][: len(words)]
    command = " ".join(word for word in words[len(options) :]).replace("/data/local/tmp", str(folder))
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "TMPDIR")}
    child = subprocess.Popen(["sh", "-c", command], env=environment, start_new_session=True)
    # Ctrl-C reaches the client here; the program there meets the end of its input.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGHUP))
    return child.wait()


def push(file: Path, place: str) -> int:
    try:
        shutil.copy(file, place)
    except OSError as error:
        print(f"adb: error: failed to copy '{file}' to '{place}': remote {error.strerror}", file=sys.stderr)
        return 1
    print(f"{file}: 1 file pushed, 0 skipped. 35.1 MB/s ({file.stat().st_size} bytes in 0.010s)")
    return 0


def main(words: list[str]) -> int:
    serial = os.environ.get("ANDROID_SERIAL", "")
    if words[:1] == ["-s"]:
        serial, words = words[1], words[2:]
    devices = dict(line.split("\t") for line in (HOME / "devices").read_text().splitlines())
    if words == ["devices"]:
        print("List of devices attached", *(f"{name}\t{state}" for name, state in devices.items()), "", sep="\n")
        return 0
    if not devices:
        return fail("no devices/emulators found")
    if not serial and len(devices) > 1:
        return fail("more than one device/emulator")
    chosen = serial or next(iter(devices))
    if chosen not in devices:
        return fail(f"device '{chosen}' not found")
    # What `devices` says may be older than what happens next.
    gone = HOME / "gone"
    state = gone.read_text() if gone.exists() else devices[chosen]
    if state != "device":
        return fail(REFUSED.get(state, f"device '{chosen}' not found"))
    if words[:1] == ["shell"]:
        return shell(HOME / chosen, words[1:])
    if words[:1] == ["push"]:
        return push(Path(words[1]), words[2].replace("/data/local/tmp", str(HOME / chosen)))
    print(f"adb: unknown command {words[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
