"""One page in one headless Chromium: a local server hands out jobs, and the page posts their answers back.

What is under test is the build's own code (`engine.mjs`, `loop.mjs`); what asks it is edgevit's. Chromium can reach
nothing but this server. What a call takes includes the way there and back, about a millisecond.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import BundleError, InputError, UnavailableError
from edgevit.targets.base import ClosedSession
from edgevit.targets.browser.wire import Header, pack, unpack

if TYPE_CHECKING:
    from edgevit.types import Arrays

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
INSTALL = "install Chromium (Debian: sudo apt-get install chromium)"
HERE = Path(__file__).parent
RUNNER = {"edgevit-runner.html": HERE / "runner.html", "edgevit-runner.mjs": HERE / "runner.mjs"}
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
PATIENCE = 120.0
"""Seconds for a browser to start, and for one call."""
IDLE = 15.0
"""Seconds after which an unanswered request for work is answered with nothing, and asked again."""
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # containers often have a /dev/shm too small for a model
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find_browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def browser_command(browser: str, profile: str) -> list[str]:
    """The browser without a window, that reaches nothing but this machine."""
    # As root it refuses to start a sandbox.
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [browser, *sandbox, *FLAGS, f"--user-data-dir={profile}"]


class Page:
    """The graphs of the build in `directory`, opened in a browser; calls take turns. Raises BundleError for damage."""

    def __init__(self, directory: Path, name: str, threads: int) -> None:
        browser = find_browser()
        if browser is None:
            raise UnavailableError(f"expected a browser to execute {name}, found none; {INSTALL}")
        self.name = name
        self._turn = threading.Lock()
        self._jobs: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(directory, self._jobs, self._answers))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.profile = tempfile.TemporaryDirectory(prefix="edgevit-browser-", ignore_cleanup_errors=True)
        self.process: subprocess.Popen[bytes] | None = _start(
            browser, self.profile.name, self._server.server_port, threads
        )
        ready, _ = self._answer("to open")
        if ready.kind != "ready":
            self.close()
            raise BundleError(
                f"expected {directory} to open in {Path(browser).name}, found: {_line(ready.text)}; export it again"
            )
        self.agent = _line(ready.text)

    def call(self, job: Header, arrays: Arrays | None = None, rest: bytes = b"") -> Arrays:
        """What the page gives for a job; thread-safe, one at a time. Raises InputError for what it cannot do."""
        with self._turn:
            if self.process is None:
                raise ClosedSession(self.name)
            self._jobs.put(pack(job, arrays, rest))
            found, outputs = self._answer("to answer")
        if found.kind == "closed":
            raise ClosedSession(self.name)
        if found.kind != "result":
            raise InputError(f"expected {self.name} to run in the browser, found: {_line(found.text)}")
        return outputs

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._answers.put(pack(Header(kind="closed")))  # for a call that waits
            self._server.shutdown()
            self._server.server_close()
            self.profile.cleanup()

    def _answer(self, what: str) -> tuple[Header, Arrays]:
        try:
            return unpack(self._answers.get(timeout=PATIENCE))
        except queue.Empty:
            self.close()
            raise UnavailableError(f"expected the browser {what} within {PATIENCE:.0f} s, found nothing") from None


def _start(browser: str, profile: str, port: int, threads: int) -> subprocess.Popen[bytes]:
    command = [
        *browser_command(browser, profile),
        "--remote-debugging-port=0",  # without one a headless browser ends with its first page
        f"http://127.0.0.1:{port}/edgevit-runner.html?threads={threads}",
    ]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _handler(directory: Path, jobs: queue.Queue[bytes], answers: queue.Queue[bytes]) -> type[BaseHTTPRequestHandler]:
    """Serves the files of one build by name, gives out jobs and takes answers."""
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()} | RUNNER

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/")
            if name == "job":
                self._give_job()
            elif name in files:
                self._send(200, files[name].read_bytes(), TYPES.get(files[name].suffix, ""))
            else:
                self._send(404)

        def do_POST(self) -> None:
            answers.put(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self._send(204)

        def _give_job(self) -> None:
            try:
                job = jobs.get(timeout=IDLE)
            except queue.Empty:
                self._send(204)
            else:
                self._send(200, job, "application/octet-stream")

        def _send(self, status: int, body: bytes = b"", kind: str = "") -> None:
            # Isolated, so that the page may have threads.
            isolated = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
            described = {"Content-Type": kind} if kind else {}
            self.send_response(status)
            for key, value in {**isolated, **described, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            with suppress(ConnectionError):  # a browser that was closed meanwhile listens no more
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            """Requests are no news."""

    return Handler


def _line(text: str) -> str:
    return " ".join(text.split())
