"""The parent's side of a measuring process: start it, ask it, notice when it dies or hangs, end it."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, TypeVar

import msgspec

from edgevit.errors import MeasureError
from edgevit.measure import protocol

if TYPE_CHECKING:
    from types import TracebackType

Answer = TypeVar("Answer", bound=protocol.Message)

# The child gets this process's import path, as multiprocessing's spawn gives it, so that it imports the same edgevit;
# `-m edgevit.measure.worker` would import whatever lies in the current directory first.
_START = "import sys; sys.path[:] = sys.argv[1:]; from edgevit.measure.worker import main; sys.exit(main())"
_STDERR_TAIL = 300
_STOP_SECONDS = 10.0


class WorkerProcess:
    """One measuring process; `timeout` in seconds bounds every answer.

    Use it as a context manager: leaving stops the process, by force if it does not stop by itself.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()
        self._decoder = msgspec.json.Decoder(protocol.Reply)

    def ask(self, command: protocol.Command, want: type[Answer]) -> Answer:
        """Sends a command and waits for its reply.

        Raises MeasureError when the process reports a failure, dies (with its exit status and the end of its standard
        error) or gives no answer in time; it is then killed.
        """
        doing = f"during {type(command).__name__}"
        line = msgspec.json.encode(command) + b"\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._death(doing) from error
        try:
            answer = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            self._process.kill()
            raise MeasureError(
                f"expected an answer {doing} within {self._timeout:g} s, found none, and killed the "
                "measuring process; raise the time limit or leave this build out"
            ) from None
        if not answer:
            raise self._death(doing)
        reply = self._decoder.decode(answer)
        if isinstance(reply, protocol.Failure):
            raise MeasureError(reply.message)
        if not isinstance(reply, want):
            raise MeasureError(f"expected {want.__name__} {doing}, found {type(reply).__name__}")
        return reply

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Ends the process, by force if it does not stop by itself; safe to call twice and after its death."""
        if self._process.poll() is None:
            self._stop()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # A dead process leaves a broken pipe behind.
            self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()  # Its answers are no longer wanted, and it may be in the middle of a long call.
        self.close()

    def _stop(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(protocol.Stop()) + b"\n")
            self._process.stdin.close()
            self._process.wait(_STOP_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()  # Its results are in: how it ends no longer matters, that it ends does.
            self._process.wait()

    def _death(self, doing: str) -> MeasureError:
        status = self._process.wait()
        self._stderr.seek(0)
        text = " ".join(self._stderr.read().decode("utf-8", errors="replace").split())
        said = f"; its standard error ends: {text[-_STDERR_TAIL:]}" if text else ""
        return MeasureError(f"the measuring process {describe_exit(status)} {doing}{said}")

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")


def describe_exit(status: int) -> str:
    """An exit status in words; negative numbers are signals, as subprocess gives them on POSIX."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (the system does this when memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
