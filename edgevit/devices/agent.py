"""The device's side of a connection: one file of the standard library alone, sent as text and run by the Python there.

It obeys one JSON object per line of standard input and answers with one per line of standard output. What it is given
lies in a workplace that goes away with it, however the connection ends: on the end of standard input whatever it has
started is killed. Virtual environments alone stay, the last few of them. Needs a POSIX system.

    cache/work-…/           this connection's files; locked, so that the next connection removes what a crash left
    cache/venvs/KEY/        a finished virtual environment, renamed there when it was complete

The last connection to leave removes `cache` itself where no environment is kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

GREETING = "edgevit-agent "
VENVS_KEPT = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SCARCE = 1 << 20
"""Bytes; a disk with less room than this is full."""
_VENV = 32 << 20
"""Bytes that a virtual environment takes while it is made: pip, and pip's wheel, which is gone when that has failed."""
_CHUNK = 1 << 16
_TAIL = 4000
"""Bytes of a failed program's standard error that are sent back."""

PLATFORMS = """
import json, sys
from pip._vendor.packaging import tags
print(json.dumps([list(tags.platform_tags()), f"cp{sys.version_info[0]}{sys.version_info[1]}"]))
"""
"""Run by the new environment's own pip: what wheels may be called that are installed there."""


class RefusedError(Exception):
    """What was asked for cannot be done; `kind` is for programs, the text for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class GoneError(Exception):
    """The other side has closed the connection."""


class Agent:
    """One connection's workplace and what is done in it."""

    def __init__(self, cache: Path, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._cache, self._commands, self._answers = cache, commands, answers
        self._locks: list[int] = []
        self._venv: Path | None = None
        self._key = ""
        self._homeless = False
        self.work = self._claim()

    def serve(self) -> None:
        """Answers until the other side has nothing more to ask."""
        self._say({"hello": self._facts()}, GREETING)
        while line := self._commands.readline():
            command = json.loads(line)
            try:
                answer = getattr(self, f"do_{command.pop('do')}")(**command)
            except RefusedError as error:
                self._say({"refused": error.kind, "text": str(error)})
            except OSError as error:
                kind = "full" if error.errno in _FULL else "system"
                self._say({"refused": kind, "text": f"{error.strerror or error} ({error.filename or self.work})"})
                if "size" in command:
                    return  # the rest of the file is still on its way, and no command
            else:
                self._say(answer)

    def close(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        for lock in self._locks:
            os.close(lock)
        with contextlib.suppress(OSError), self._gate():
            if [path.name for path in self._cache.iterdir()] == ["lock"]:
                (self._cache / "lock").unlink()
                self._cache.rmdir()

    # ------------------------------------------------------------------------------------------- commands

    def do_put(self, path: str, size: int, sha256: str) -> dict[str, Any]:
        """Takes the `size` bytes that follow; a file is there under its name only when its checksum is right."""
        final = self._inside(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f"{final.name}.part")
        digest, left = hashlib.sha256(), size
        with part.open("wb") as file:
            while left:
                data = self._commands.read(min(left, _CHUNK))
                if not data:
                    raise GoneError
                file.write(data)
                digest.update(data)
                left -= len(data)
        if digest.hexdigest() != sha256:
            part.unlink()
            raise RefusedError("damaged", f"{path} arrived with SHA-256 {digest.hexdigest()}, expected {sha256}")
        part.replace(final)
        return {"put": path}

    def do_venv(self, key: str, shared: bool = False) -> dict[str, Any]:
        """Uses the finished environment of that name, or makes a new one for `install` to fill.

        `shared`: with the packages that the Python there has already, and nothing is written to anybody's home.
        """
        self._homeless = shared  # pip has its settings there, and asks rustc, which makes a folder .rustup
        ready = self._cache / "venvs" / key
        if ready.is_dir():
            self._use(ready)
            return {"ready": True}
        self._venv, self._key = self.work / "venv", key
        options = ["--system-site-packages"] if shared else []
        status, out, errors = self._attended([sys.executable, "-m", "venv", *options, str(self._venv)])
        if status:
            raise self._refused("venv", errors or out or f"python -m venv ended with status {status}")
        status, out, errors = self._attended([str(self._python()), "-c", PLATFORMS])
        if status:
            raise self._refused("venv", errors or f"its pip ended with status {status}")
        platforms, interpreter = json.loads(out)
        return {"ready": False, "platforms": platforms, "interpreter": interpreter}

    def do_install(self, requirements: list[str], offline: bool) -> dict[str, Any]:
        """Installs into the new environment, with `offline` from the folder `wheels` of the workplace alone."""
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
        pip = [str(self._python()), "-m", "pip", "install", *quiet]
        source = ["--no-index", "--find-links", str(self.work / "wheels")] if offline else []
        # Wheels only: to compile NumPy takes a small board an hour, when it has a compiler at all.
        status, out, errors = self._attended([*pip, "--only-binary", ":all:", *source, *requirements])
        if status:
            raise self._refused("install", errors or out or f"pip ended with status {status}")
        return {"installed": requirements}

    def do_keep(self) -> dict[str, Any]:
        """Gives the filled environment its name, and removes those that were not used for longest."""
        venvs = self._cache / "venvs"
        venvs.mkdir(exist_ok=True)
        ready = venvs / self._key
        try:
            self._python().parent.parent.rename(ready)
        except OSError as error:
            # Another connection was faster: its environment is as good.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        self._use(ready)
        others = sorted((path for path in venvs.iterdir() if path != ready), key=lambda path: -path.stat().st_mtime)
        for path in others[VENVS_KEPT - 1 :]:
            lock = _locked(path / "in-use", fcntl.LOCK_EX)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
        return {"kept": str(ready)}

    def do_run(self, arguments: list[str], input: str) -> dict[str, Any]:
        """Runs the environment's Python; each line that it prints is passed on as it comes."""
        self._homeless = True  # ONNX Runtime 1.32 leaves a device's number and a database in ~/.cache/Microsoft
        status, _, errors = self._attended([str(self._python()), *arguments], input, passing=True)
        return {"status": status, "errors": errors}

    # --------------------------------------------------------------------------------------------- parts

    def _attended(self, command: list[str], input: str = "", *, passing: bool = False) -> tuple[int, str, str]:
        """(status, standard output, end of standard error) of a program that does not outlive the connection."""
        given = self.work / "input"
        given.write_text(input, encoding="utf-8")
        environment = {**os.environ, "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}
        if self._homeless:
            environment |= dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(self.work))
        environment = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        with given.open("rb") as stdin, tempfile.TemporaryFile(dir=self.work) as errors:
            child = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.work,
                env=environment,
                start_new_session=True,
            )
            try:
                out = self._read(child, passing)
                status = child.wait()
            finally:
                # Its own measuring processes are in its group too.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            errors.seek(0)
            return status, out, errors.read().decode("utf-8", "replace").strip()[-_TAIL:]

    def _read(self, child: subprocess.Popen[bytes], passing: bool) -> str:
        """What the child prints until its end; GoneError when the other side leaves before that.

        Nothing is asked while a program runs, so that anything on standard input is its end.
        """
        assert child.stdout is not None
        source, text = child.stdout.fileno(), b""
        while True:
            ready, _, _ = select.select([source, self._commands.fileno()], [], [])
            if self._commands.fileno() in ready:
                raise GoneError
            data = os.read(source, _CHUNK)
            text += data
            if passing:
                *lines, text = text.split(b"\n")
                for line in lines:
                    self._say({"line": line.decode("utf-8", "replace")})
            if not data:
                return text.decode("utf-8", "replace")

    def _refused(self, kind: str, text: str) -> RefusedError:
        """Of a program that failed: whatever it was about, a full disk is what has to be said.

        Its words may not have fitted on that disk either, hence the look at the free space.
        """
        needed = _VENV if kind == "venv" else _SCARCE
        full = any(os.strerror(code) in text for code in _FULL) or shutil.disk_usage(self.work).free < needed
        return RefusedError("full" if full else kind, text)

    def _claim(self) -> Path:
        """A new workplace; those that nobody holds any more are removed."""
        with self._gate():
            for left in self._cache.glob("work-*"):
                lock = _locked(left / "lock", fcntl.LOCK_EX)
                if lock is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)
            work = Path(tempfile.mkdtemp(prefix="work-", dir=self._cache))
            lock = _locked(work / "lock", fcntl.LOCK_EX)
            if lock is not None:
                self._locks.append(lock)
            return work

    @contextlib.contextmanager
    def _gate(self) -> Iterator[None]:
        """Alone in `cache`. Another connection may have removed it while this one waited: then it is made again."""
        path = self._cache / "lock"
        while True:
            self._cache.mkdir(parents=True, exist_ok=True)
            gate = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(gate, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(path.stat(), os.fstat(gate)):
                    yield
                    return
            finally:
                os.close(gate)

    def _use(self, venv: Path) -> None:
        self._venv = venv
        os.utime(venv)
        lock = _locked(venv / "in-use", fcntl.LOCK_SH)
        if lock is not None:
            self._locks.append(lock)

    def _python(self) -> Path:
        if self._venv is None:
            raise RefusedError("order", "no environment was asked for")
        return self._venv / "bin" / "python"

    def _inside(self, path: str) -> Path:
        if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise RefusedError("path", f"{path!r} is no path below the workplace")
        return self.work / path

    def _facts(self) -> dict[str, Any]:
        return {
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "system": platform.system(),
            "machine": platform.machine(),
            "work": str(self.work),
            "free": shutil.disk_usage(self.work).free,
        }

    def _say(self, answer: dict[str, Any], before: str = "") -> None:
        self._answers.write(f"{before}{json.dumps(answer)}\n".encode())
        self._answers.flush()


def _locked(path: Path, kind: int) -> int | None:
    """A descriptor that holds a lock on that file; None while somebody else does."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # gone, or not ours
        return None
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def main() -> int:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevit"
    try:
        agent = Agent(cache, sys.stdin.buffer, answers)
    except OSError as error:
        kind = "full" if error.errno in _FULL else "system"
        text = f"{error.strerror or error} ({error.filename or cache})"
        answers.write(f"{GREETING}{json.dumps({'refused': kind, 'text': text})}\n".encode())
        answers.flush()
        return 1
    try:
        agent.serve()
    except (GoneError, BrokenPipeError):
        return 1
    finally:
        agent.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
