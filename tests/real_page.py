"""A page of a build as a person meets it: served by Python's plain web server, typed into in headless Chromium."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from edgevit.targets.browser.chromium import browser_command, find_browser

PATIENCE = 60.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: Any) -> None:
        pass


class RealPage:
    """`index.html` of a folder in a browser of its own, spoken to over Chromium's debugging pipe."""

    def __init__(self, folder: Path) -> None:
        self.requested: list[str] = []
        """Every address that the page has asked for."""
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._profile = tempfile.TemporaryDirectory(prefix="edgevit-page-", ignore_cleanup_errors=True)
        browser = find_browser()
        assert browser is not None
        theirs, ours = os.pipe()
        self._from, mine = os.pipe()
        command = [*browser_command(browser, self._profile.name), "--remote-debugging-pipe", "about:blank"]
        # It reads commands from descriptor 3 and answers on descriptor 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{mine}', "bash", *command]
        self._process = subprocess.Popen(
            shell,
            pass_fds=(theirs, mine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        os.close(mine)
        self._to, self._rest, self._count = os.fdopen(ours, "wb"), b"", 0
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Network.enable")
        self._ask("Page.enable")
        self._ask("Page.navigate", url=self.address)
        self.wait_for("!document.getElementById('state').textContent.startsWith('Loading')")

    def type(self, text: str) -> str:
        """Types a text in place of the one that stands there, presses Ctrl+Enter; gives the result when it is there."""
        self.run("document.getElementById('text').focus(); document.getElementById('text').select()")
        self._ask("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": 2}
        self._ask("Input.dispatchKeyEvent", type="rawKeyDown", **key)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **key)
        self.wait_for("!document.getElementById('go').disabled")
        return self.text("result")

    def choose(self, file: Path) -> None:
        """Gives a file to the page's input `file`."""
        found = self._ask("Runtime.evaluate", expression="document.getElementById('file')")["result"]["objectId"]
        self._ask("DOM.setFileInputFiles", objectId=found, files=[str(file)])

    def text(self, identity: str) -> str:
        found: str = self.run(f"document.getElementById('{identity}').textContent")
        return found

    def run(self, expression: str) -> Any:
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"document.readyState === 'complete' && ({expression})"):
            assert time.monotonic() < deadline, f"{expression}: {self.run('document.body.innerText')}"
            time.sleep(0.02)

    def close(self) -> None:
        self._to.close()
        os.close(self._from)
        self._process.terminate()
        self._process.wait(20)
        self._server.shutdown()
        self._server.server_close()
        self._profile.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            data = os.read(self._from, 1 << 16)
            assert data, "the browser is gone"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)
