"""`edgevit bench --adb`, through a stand-in for adb on a folder: the report comes back, nothing stays there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from edgevit.devices import AdbDevice, adb_device
from edgevit.errors import UnavailableError
from edgevit.types import BenchReport

Command = Callable[..., Any]
PYTHON = "/data/local/tmp/python/bin/python3"


def left(phone: Path) -> list[str]:
    return sorted(path.name for path in phone.iterdir())


# --------------------------------------------------------------------------------------------- the report


def test_the_report_comes_back_and_nothing_stays_there(
    edgevit: Command, digits: Any, quick: list[Any], phones: Command
) -> None:
    home = phones(R58M123="device")
    arguments = ["bench", digits.bundle, "--target", "onnxruntime", "--adb", "--python", PYTHON, *quick]
    result = edgevit(*arguments, "--threads", "1,2", "--json")
    assert result.status == 0, result.err
    report = msgspec.json.decode(result.out, type=BenchReport)
    assert report.device == "R58M123"
    assert {(entry.name, entry.threads) for entry in report.entries} == {
        (f"onnxruntime-{precision}", threads) for precision in ("float32", "int8") for threads in (1, 2)
    }
    assert report.machine.packages.keys() == {"edgevit", "numpy", "onnxruntime"}
    assert "copying the bundle to R58M123" in result.err
    assert left(home / "R58M123") == ["python"]


def test_an_interrupted_measurement_leaves_nothing_there(start: Command, digits: Any, phones: Command) -> None:
    home = phones(R58M123="device")
    arguments = ["bench", digits.bundle, "--target", "onnxruntime", "--adb", "R58M123", "--python", PYTHON]
    process = start(*arguments, start_new_session=True)
    for line in process.stderr:
        if line.startswith("R58M123: "):  # it is there, and makes its environment
            break
    assert left(home / "R58M123") == ["edgevit", "python"]
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert error.endswith("edgevit: interrupted; nothing is left on the device\n")
    for _ in range(200):
        if left(home / "R58M123") == ["python"]:
            break
        time.sleep(0.05)
    assert left(home / "R58M123") == ["python"]
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(home) in " ".join(one.info["cmdline"] or ())]


# ------------------------------------------------------------------------------------------- bad devices


def refused(edgevit: Command, digits: Any, *arguments: object, status: int = 3, **how: Any) -> str:
    result = edgevit("bench", digits.bundle, *arguments, **how)
    assert (result.status, result.out) == (status, ""), result.err
    line: str = result.complaint
    return line


def test_without_adb_the_package_is_named(edgevit: Command, digits: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    prelude = f"import os; os.environ['PATH'] = {str(tmp_path / 'empty')!r}"
    line = refused(edgevit, digits, "--adb", prelude=prelude)
    assert "expected the command adb here, found none; install it (Debian, Ubuntu: sudo apt-get install adb)" in line


@pytest.mark.parametrize(
    ("states", "arguments", "status", "words"),
    [
        ({}, ["--adb"], 3, "found none; connect one and allow USB debugging"),
        ({"a": "device", "b": "offline"}, ["--adb"], 2, "--adb SERIAL, found a (device), b (offline); name the one"),
        ({"a": "device"}, ["--adb", "b"], 3, "expected the device 'b', found a (device); correct --adb"),
        ({"a": "unauthorized"}, ["--adb"], 3, "found it unauthorized: unlock it and allow this computer"),
        ({"a": "offline", "b": "device"}, ["--adb", "a"], 3, "found it offline: plug it in again"),
        ({"a": "no permissions (user in plugdev group)"}, ["--adb"], 3, "found it not accessible to this user"),
        ({"a": "sideload"}, ["--adb"], 3, "found it in the state 'sideload'"),
        ({"a": "device", "b": "device"}, ["--adb", "a", "--adb", "b"], 2, "found --adb a, --adb b; run the command"),
        ({"a": "device"}, ["--adb", "--ssh", "pi@kitchen"], 2, "expected one device to measure on, found --ssh pi@k"),
        ({"a": "device"}, ["--adb", "--ssh-option", "Port=9"], 2, "expected --ssh USER@HOST beside --ssh-option"),
        ({"a": "device"}, ["--adb", "--python", "/data/my python"], 2, "found '/data/my python'; correct it"),
        ({"a": "device"}, ["--adb", "--python", "/data/local/tmp/no"], 3, "as /data/local/tmp/no on a, found none"),
    ],
)  # fmt: skip
def test_a_device_that_cannot_be_used(
    inside: Command, digits: Any, phones: Command, states: Any, arguments: list[str], status: int, words: str
) -> None:
    home = phones(**states)
    line = refused(inside, digits, *arguments, status=status)
    assert words in line
    assert all(left(home / name) == ["python"] for name in states)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("offline", "with adb, found one that is offline"),
        ("unauthorized", "with adb, found one that is unauthorized"),
        ("away", "with adb, found that it is gone; plug it in again"),
    ],
)
def test_a_device_that_goes_away(inside: Command, digits: Any, phones: Command, state: str, words: str) -> None:
    (phones(a="device") / "gone").write_text(state)
    assert words in refused(inside, digits, "--adb", "--python", PYTHON)


def test_a_device_without_python(edgevit: Command, digits: Any, phones: Command, device_python: Command) -> None:
    phones(a="device")
    path = f"{Path(os.environ['PATH'].partition(':')[0])}:{device_python()}"
    prelude = f"import os; os.environ['PATH'] = {path!r}"
    line = refused(edgevit, digits, "--adb", prelude=prelude)
    assert "expected Python 3.11 or newer on a, found none; unpack one there, below /data/local/tmp" in line


@pytest.fixture
def small_phone(phones: Command) -> Iterator[Path]:
    """A phone with 1 MB."""
    place = phones(a="device") / "a"
    shutil.rmtree(place)
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode:
        pytest.skip("no file system can be mounted here, so no device became full; run the tests as root")
    (place / "python3").symlink_to(Path(sys.executable).resolve())
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_device_that_is_full(inside: Command, digits: Any, small_phone: Path) -> None:
    line = refused(inside, digits, "--adb", "--python", "/data/local/tmp/python3", status=2)
    assert "MB free on a for the bundle, found" in line
    assert left(small_phone) == ["python3"]
    program = small_phone.parent / "benchmark_model"
    program.write_bytes(bytes(2 << 20))
    line = refused(inside, digits, "--adb", "--runner", program, "--target", "onnxruntime", status=3)
    assert "benchmark_model runs builds of litert alone" in line
    program = program.rename(small_phone.parent / "onnxruntime_perf_test")
    line = refused(inside, digits, "--adb", "--runner", program, status=2)
    assert "the disk of a became full while copying onnxruntime_perf_test; free some space there" in line
    assert left(small_phone) == ["python3"]


# --------------------------------------------------------------------------------------------- the real one

ADB = shutil.which("adb")


@pytest.mark.skipif(ADB is None, reason="no adb here, so it was not asked; sudo apt-get install adb")
def test_the_real_adb_says_what_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device there are two things that it can say, and the stand-in says the same."""
    assert ADB is not None
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "15037")  # a server of its own, which sees no emulator of others
    try:
        with pytest.raises(UnavailableError, match="expected a device that adb knows, found none; connect one"):
            adb_device()
        for serial, words in (("", "found none; connect one"), ("nobody", "found that it is gone")):
            command = [word for word in AdbDevice(serial=serial).command("true") if word]
            command = [word for word in command if serial or word != "-s"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert words in str(AdbDevice(serial=serial).explained(done.returncode, done.stderr))
    finally:
        subprocess.run([ADB, "kill-server"], capture_output=True, check=False)
