"""A build for browsers executed in headless Chromium: a local server hands out inputs, the page posts the outputs back.

The page under test is the build's own code (`classify.mjs`); only the loop around it is edgevit's. Chromium can reach
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

import msgspec
import numpy as np

from edgevit.errors import BundleError, InputError, UnavailableError
from edgevit.targets.base import ClosedSession
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.targets.base import OpenOptions
    from edgevit.types import Arrays, Build

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
INSTALL = "install Chromium (Debian: sudo apt-get install chromium)"
HERE = Path(__file__).parent
RUNNER = {"edgevit-runner.html": HERE / "runner.html", "edgevit-runner.mjs": HERE / "runner.mjs"}
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
PATIENCE = 120.0
"""Seconds for a browser to start, and for one call."""
IDLE = 15.0
"""Seconds after which an unanswered request for work is answered with nothing, and asked again."""


class _Job(msgspec.Struct, frozen=True):
    kind: str
    shape: tuple[int, ...]
    body: bytes


class _Answer(msgspec.Struct, frozen=True):
    kind: str
    shape: tuple[int, ...]
    body: bytes


def find_browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


class BrowserSession:
    """One page in one browser; calls take turns."""

    def __init__(self, directory: Path, build: Build, options: OpenOptions) -> None:
        browser = find_browser()
        if browser is None:
            raise UnavailableError(f"expected a browser to execute {build.name}, found none; {INSTALL}")
        self.signature = build.signature
        self.engine = Engine(name=build.engine.name, version=build.engine.version, device="browser")
        self._build = build
        self._turn = threading.Lock()
        self._jobs: queue.Queue[_Job] = queue.Queue()
        self._answers: queue.Queue[_Answer] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(directory, self._jobs, self._answers))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._profile = tempfile.TemporaryDirectory(prefix="edgevit-browser-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = _start(
            browser, self._profile.name, self._server.server_port, options.threads or 1
        )
        ready = self._answer("to open")
        if ready.kind != "ready":
            self.close()
            raise BundleError(
                f"expected {directory} to open in {Path(browser).name}, found: {_line(ready.body)}; export it again"
            )
        self._agent = _line(ready.body)

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe; one call at a time."""
        spec = self.signature.inputs[0]
        values = np.ascontiguousarray(inputs[spec.name], dtype=np.float32)
        return {self.signature.outputs[0].name: self._call("tensor", values.shape, values.tobytes())}

    def prepare(self, image: bytes) -> NDArray[np.float32]:
        """What the page's own preprocessing makes of an image file: float32 (1, channels, height, width)."""
        return self._call("image", (), image)

    def execution(self) -> Execution:
        return Execution(
            precision=self._build.precision,
            provider=f"WebAssembly in {self._agent.rpartition(' ')[0].rpartition(' ')[2] or self._agent}",
            instruction_set="wasm simd128",
        )

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._answers.put(_Answer("closed", (), b""))  # for a call that waits
            self._server.shutdown()
            self._server.server_close()
            self._profile.cleanup()

    def _call(self, kind: str, shape: tuple[int, ...], body: bytes) -> NDArray[np.float32]:
        with self._turn:
            if self._process is None:
                raise ClosedSession(self._build.name)
            self._jobs.put(_Job(kind, shape, body))
            found = self._answer("to answer")
        if found.kind == "closed":
            raise ClosedSession(self._build.name)
        if found.kind != "result":
            raise InputError(f"expected {self._build.name} to run in the browser, found: {_line(found.body)}")
        values: NDArray[np.float32] = np.frombuffer(found.body, np.float32).reshape(found.shape).copy()
        return values

    def _answer(self, what: str) -> _Answer:
        try:
            return self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            self.close()
            raise UnavailableError(f"expected the browser {what} within {PATIENCE:.0f} s, found nothing") from None


def _start(browser: str, profile: str, port: int, threads: int) -> subprocess.Popen[bytes]:
    command = [
        browser,
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",  # containers often have a /dev/shm too small for a model
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--remote-debugging-port=0",  # without one a headless browser ends with its first page
        f"--user-data-dir={profile}",
        f"http://127.0.0.1:{port}/edgevit-runner.html?threads={threads}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # it refuses to start a sandbox as root
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _handler(directory: Path, jobs: queue.Queue[_Job], answers: queue.Queue[_Answer]) -> type[BaseHTTPRequestHandler]:
    """Serves the files of one build by name, gives out jobs and takes answers."""
    files = {path.name: path for path in directory.iterdir() if path.is_file()} | RUNNER

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/")
            if name == "job":
                self._give_job()
            elif name in files:
                self._send(200, files[name].read_bytes(), {"Content-Type": TYPES.get(files[name].suffix, "")})
            else:
                self._send(404, b"", {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            shape = tuple(int(size) for size in self.headers.get("X-Shape", "").split(",") if size)
            answers.put(_Answer(self.path.removeprefix("/"), shape, body))
            self._send(204, b"", {})

        def _give_job(self) -> None:
            try:
                job = jobs.get(timeout=IDLE)
            except queue.Empty:
                self._send(204, b"", {})
                return
            headers = {"X-Kind": job.kind, "X-Shape": ",".join(map(str, job.shape))}
            self._send(200, job.body, {"Content-Type": "application/octet-stream", **headers})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            # Isolated, so that the page may have threads.
            isolated = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
            self.send_response(status)
            for key, value in {**isolated, **headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            with suppress(ConnectionError):  # a browser that was closed meanwhile listens no more
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            """Requests are no news."""

    return Handler


def _line(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())
