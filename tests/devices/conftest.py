"""A real sshd on a loopback port, with keys made for the test and a home of its own for what edgevit leaves there."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
MISSING = "no sshd here, so no device was reached; sudo apt-get install openssh-server"


@dataclass(frozen=True)
class Sshd:
    """A server that takes one key, and what a client needs to know of it."""

    place: Path
    port: int
    host: str

    @property
    def options(self) -> tuple[str, ...]:
        """As `--ssh-option` takes them."""
        return (
            f"Port={self.port}",
            f"IdentityFile={self.place / 'client'}",
            f"UserKnownHostsFile={self.place / 'known_hosts'}",
            "GlobalKnownHostsFile=none",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
        )

    @property
    def arguments(self) -> list[str]:
        return ["--ssh", self.host, *(part for option in self.options for part in ("--ssh-option", option))]

    @property
    def cache(self) -> Path:
        return self.place / "home" / "edgevit"

    @property
    def workplaces(self) -> list[str]:
        return [path.name for path in self.cache.glob("work-*")]


def _key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def start_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sshd]]:
    """(path=folders in which programs are looked for there, cache=…, pip=settings) -> a running server."""
    if SSHD is None:
        pytest.skip(MISSING)
    running: list[subprocess.Popen[bytes]] = []
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as root it wants its privilege separation directory

    def start(path: str | None = None, cache: Path | None = None, pip: tuple[str, ...] | None = None) -> Sshd:
        place = tmp_path_factory.mktemp("sshd")
        server = Sshd(place=place, port=_free_port(), host=f"{getpass.getuser()}@127.0.0.1")
        for name in ("host", "client", "stranger"):
            _key(place / name)
        public = (place / "host.pub").read_text()
        (place / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {public}")
        shutil.copy(place / "client.pub", place / "authorized_keys")
        # This machine's pip may be told about its index by its environment; a login there starts with none.
        here = tuple(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_"))
        given = here if pip is None else (*pip, f"PIP_CONFIG_FILE={os.devnull}")
        environment = [f"XDG_CACHE_HOME={cache or place / 'home'}", f"PATH={path or os.environ['PATH']}", *given]
        settings = [
            f"Port {server.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {place / 'host'}",
            f"AuthorizedKeysFile {place / 'authorized_keys'}",
            f"PidFile {place / 'pid'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            # After the login shell's profile, which may add to PATH whatever the person at this machine likes.
            f'ForceCommand exec /usr/bin/env {shlex.join(environment)} /bin/sh -c "$SSH_ORIGINAL_COMMAND"',
        ]
        (place / "config").write_text("\n".join(settings) + "\n")
        assert SSHD is not None
        log = (place / "log").open("wb")
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(place / "config")], stderr=log)
        running.append(process)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                    return server
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.05)
        raise AssertionError(f"sshd does not listen: {(place / 'log').read_text()}")

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """(names) -> a PATH with a shell and those programs: {"python3": "/usr/bin/python3.9"}."""

    def make(**names: str) -> str:
        folder = tmp_path_factory.mktemp("programs")
        for name in ("sh", "env", "echo"):
            found = shutil.which(name)
            assert found is not None
            (folder / name).symlink_to(found)
        for name, text in names.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def sshd(start_sshd: Callable[..., Sshd]) -> Sshd:
    """The server of most tests; its environments are kept from one to the next."""
    base = Path(sys.executable).resolve().parent
    return start_sshd(path=f"{base}:{os.environ['PATH']}")


@pytest.fixture(scope="session")
def quick() -> list[Any]:
    """Options of a measurement that is over at once."""
    return ["--seconds", 0.05, "--rounds", 2, "--threads", 1, "--cold-starts", 0]


@pytest.fixture
def phones(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """(SERIAL=STATE …) -> the stand-in's folder, with the phones' own in it; the first command `adb` is the stand-in.

    Each has a Python of its own, and whatever the settings of this machine's pip are.
    """
    home = tmp_path / "adb"
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "adb"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {repository / "tests/devices/stand_in_adb.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("EDGEVIT_TEST_ADB", str(home))

    def connect(**states: str) -> Path:
        (home / "devices").write_text("".join(f"{name}\t{state}\n" for name, state in states.items()))
        for name in states:
            (home / name / "python" / "bin").mkdir(parents=True)
            (home / name / "python" / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
        return home

    return connect
