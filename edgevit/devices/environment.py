"""A virtual environment on a device that holds edgevit and what the measured builds need: found there, or made."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.devices.connection import RefusalError, one_line
from edgevit.devices.packages import Platform, collect, lacks_version, pip_reason, unreachable
from edgevit.errors import MeasureError, OutputError, UnavailableError
from edgevit.files import sha256

if TYPE_CHECKING:
    from edgevit.devices.connection import Connection
    from edgevit.devices.packages import Needs
    from edgevit.errors import EdgevitError
    from edgevit.progress import Progress

_WHEELS = "wheels"


def prepare(connection: Connection, wheel: Path, needs: Needs, wheels: Path | None, progress: Progress) -> None:
    """Afterwards the connection's programs run with edgevit and `needs` installed.

    An environment is used again while edgevit, the versions asked for and the device's Python stay the same. A device
    that keeps none gets one for this connection, with what its Python has already. With
    `wheels` nothing is installed but what is sent from that folder. Raises UnavailableError where the device cannot
    install it, OutputError where its disk is full.
    """
    facts = connection.facts
    parts = (sha256(wheel), *needs.exact, facts["python"], facts["implementation"], facts["machine"])
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]
    try:
        found = connection.ask(
            {"do": "venv", "key": key, "shared": not connection.keeps}, "making a virtual environment"
        )
        if found["ready"]:
            return
        with tempfile.TemporaryDirectory() as scratch:
            send = [wheel]
            if wheels is not None:
                platform = Platform(platforms=tuple(found["platforms"]), interpreter=found["interpreter"])
                with progress.task(f"collecting wheels for {platform.platforms[0]}", None):
                    collect(wheel, needs, platform, wheels, Path(scratch) / _WHEELS)
                send = sorted((Path(scratch) / _WHEELS).iterdir())
            copy(connection, {f"{_WHEELS}/{path.name}": path for path in send}, "wheels", progress)
        with progress.task(f"installing on {connection.name}", None):
            _install(connection, wheel, needs, offline=wheels is not None)
            if connection.keeps:
                connection.ask({"do": "keep"}, "keeping the virtual environment")
    except RefusalError as refusal:
        raise explained(connection, refusal) from refusal


def copy(connection: Connection, files: dict[str, Path], what: str, progress: Progress) -> None:
    """Sends files to their places in the workplace; each is there with the right checksum, or an error is raised."""
    total = sum(path.stat().st_size for path in files.values())
    sent = 0
    with progress.task(f"copying {what} to {connection.name}", None) as advance:

        def moved(count: int) -> None:
            nonlocal sent
            sent += count
            advance(sent >> 20, "MB", max(1, total >> 20))

        try:
            for place, path in files.items():
                connection.put(place, path, moved)
        except RefusalError as refusal:
            raise explained(connection, refusal) from refusal


def explained(connection: Connection, refusal: RefusalError) -> EdgevitError:
    """What a refusal means to somebody who wants to measure there."""
    name, facts = connection.name, connection.facts
    if refusal.kind == "venv":
        return UnavailableError(
            f"expected Python's venv module on {name}, found: {one_line(str(refusal), 160)}; install it there "
            "(Debian, Ubuntu: sudo apt-get install python3-venv)"
        )
    if refusal.kind == "install":
        return UnavailableError(
            f"what the builds need cannot be installed on {name} ({facts['machine']}, Python {facts['python']}): "
            f"{pip_reason(refusal.whole)}; --wheels DIR sends it from here, --target leaves builds out"
        )
    if refusal.kind == "system":
        return OutputError(f"cannot write on {name}: {one_line(str(refusal))}; check the permissions and limits there")
    return MeasureError(f"{name} refused: {one_line(str(refusal))}; run the command again")


def _install(connection: Connection, wheel: Path, needs: Needs, *, offline: bool) -> None:
    place = f"{connection.facts['work']}/{_WHEELS}/{wheel.name}"
    try:
        _install_these(connection, [place, *needs.exact], offline)
    except RefusalError as refusal:
        alone = not connection.keeps and unreachable(refusal.whole)  # its Python may have what is needed
        if refusal.kind != "install" or not (lacks_version(refusal.whole) or alone):
            raise
        # Another version of the engine is better than none, and the report says which one was measured.
        _install_these(connection, [place, *needs.any], offline)


def _install_these(connection: Connection, requirements: list[str], offline: bool) -> None:
    command = {"do": "install", "requirements": requirements, "offline": offline}
    connection.ask(command, "installing")
