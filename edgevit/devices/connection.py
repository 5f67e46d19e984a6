"""This side of a connection to a device: starts the agent there, asks it, and turns its refusals into errors."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from edgevit.devices import agent
from edgevit.errors import EdgevitError, InputError, MeasureError, OutputError, UnavailableError
from edgevit.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_PYTHONS = "python3 python3.14 python3.13 python3.12 python3.11"
_NO_PYTHON = "edgevit-no-python"
_NOISE = 200
"""Lines that a device's profile may print before the agent greets."""
_LEAVING_SECONDS = 20.0
_CHUNK = 1 << 18


class Transport(Protocol):
    """A way to run a program on a device, with its standard input and output connected to here."""

    @property
    def name(self) -> str:
        """The device, as it was asked for."""

    @property
    def python(self) -> str:
        """The Python to use there, a path or a name; empty to look for one."""

    @property
    def keeps(self) -> bool:
        """Whether virtual environments may stay there; if not, the packages of its Python are used as they are."""

    def command(self, script: str) -> Sequence[str]:
        """What to run here so that a POSIX shell there runs `script`, which holds no single quote."""

    def explained(self, status: int, errors: str) -> EdgevitError:
        """Why a connection ended by itself, from the exit status of `command` and what it wrote."""


def start_script(python: str = "") -> str:
    """What starts the agent that follows on standard input, with `python` or the first good one that is found.

    It holds no single quote, so that every login shell understands it quoted. Raises InputError for a path that would
    have to be quoted.
    """
    if not re.fullmatch(r"[\w./+-]*", python):
        raise InputError(f"expected --python as a path of letters, digits and ./+-_, found {python!r}; correct it")
    first = python or "python3"
    return (
        # A profile may not know ~/.local/bin.
        f'PATH="$PATH:$HOME/.local/bin:/usr/local/bin"; for p in {python or _PYTHONS}; do '
        '"$p" -c "import sys; sys.exit(sys.version_info < (3, 11))" </dev/null 2>/dev/null && '
        'exec "$p" -c "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"; done; '
        f"echo {_NO_PYTHON} $({first} -V 2>&1)"
    )


class RefusalError(EdgevitError):
    """The agent could not do what it was asked; `kind` is the agent's word for it, `whole` its text line by line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(" ".join(text.split()))
        self.kind, self.whole = kind, text


class Connection:
    """An agent on a device, and its workplace there. Leaving the context ends both, whatever happened."""

    def __init__(self, transport: Transport) -> None:
        self.name, self.keeps = transport.name, transport.keeps
        self._transport = transport
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        # Ctrl-C at a terminal reaches every program of the group: this one has to stay until the agent has cleaned up.
        shielded = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *transport.command(start_script(transport.python))]
        self._process = subprocess.Popen(
            shielded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=_CHUNK
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout
        try:
            self.facts = self._greeted()
        except BaseException:
            self.close()
            raise

    def put(self, path: str, file: Path, moved: Callable[[int], None]) -> None:
        """Sends one file to `path` of the workplace; `moved` is told how many bytes have left, chunk by chunk."""
        command = {"do": "put", "path": path, "size": file.stat().st_size, "sha256": sha256(file)}
        with contextlib.suppress(BrokenPipeError), file.open("rb") as data:  # what it says is in its answer
            self._to.write(json.dumps(command).encode() + b"\n")
            while chunk := data.read(_CHUNK):
                self._to.write(chunk)
                moved(len(chunk))
            self._to.flush()
        self._answer(f"copying {path}")

    def ask(self, what: dict[str, Any], doing: str, lines: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Asks for one of the agent's commands, `{"do": its name, …}`; what a program prints there goes to `lines`.

        Raises `RefusalError` for what the agent cannot do, OutputError where the device's disk is full, and what the
        transport makes of it where the connection is lost.
        """
        with contextlib.suppress(BrokenPipeError):
            self._to.write(json.dumps(what).encode() + b"\n")
            self._to.flush()
        while True:
            answer = self._answer(doing)
            if "line" not in answer:
                return answer
            if lines is not None:
                lines(answer["line"])

    def close(self) -> None:
        """Tells the agent to clean up, and waits until it has."""
        with contextlib.suppress(OSError):
            self._to.close()
        self._from.close()  # whoever still prints has no reader any more
        try:
            self._process.wait(_LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --------------------------------------------------------------------------------------------- parts

    def _greeted(self) -> dict[str, Any]:
        program = Path(agent.__file__).read_bytes()
        with contextlib.suppress(BrokenPipeError):
            self._to.write(b"%d\n" % len(program) + program)
            self._to.flush()
        for _ in range(_NOISE):
            line = self._from.readline().decode("utf-8", "replace")
            if not line:
                raise self._ended()
            if line.startswith(_NO_PYTHON):
                raise self._no_python(line.removeprefix(_NO_PYTHON).strip())
            if line.startswith(agent.GREETING):
                return dict(self._checked(json.loads(line.removeprefix(agent.GREETING)), "making a workplace")["hello"])
        raise UnavailableError(
            f"expected {self.name} to start Python when it is asked to, found that its shell prints something else; "
            "look at what its profile does without a terminal"
        )

    def _no_python(self, found: str) -> UnavailableError:
        fix = "install one there (Debian, Ubuntu: sudo apt-get install python3 python3-venv)"
        if not self.keeps:
            fix = "unpack one there, below /data/local/tmp for example, and name it with --python PATH"
        wanted = f"as {self._transport.python} " if self._transport.python else ""
        return UnavailableError(
            f"expected Python 3.11 or newer {wanted}on {self.name}, found {_python_found(found)}; {fix}"
        )

    def _answer(self, doing: str) -> dict[str, Any]:
        line = self._from.readline()
        if not line.endswith(b"\n"):
            raise self._ended(doing)
        return self._checked(json.loads(line), doing)

    def _checked(self, answer: dict[str, Any], doing: str) -> dict[str, Any]:
        if "refused" not in answer:
            return answer
        if answer["refused"] == "full":
            raise OutputError(
                f"the disk of {self.name} became full while {doing}: {one_line(answer['text'])}; free some space there"
            )
        raise RefusalError(answer["refused"], answer["text"])

    def _ended(self, doing: str = "") -> EdgevitError:
        status = self._process.wait()
        self._errors.seek(0)
        errors = self._errors.read().decode("utf-8", "replace")
        if doing and status == 0:
            return MeasureError(f"the agent on {self.name} ended {doing}; run the command again")
        found = self._transport.explained(status, errors)
        return type(found)(f"{found} (it was {doing})") if doing else found


def one_line(text: str, most: int = 300) -> str:
    """The end of what a program wrote, as part of a line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"…{flat[-most:]}"


def _python_found(text: str) -> str:
    found = re.search(r"Python \d[\w.+]*", text)
    return found.group() if found else "none"
