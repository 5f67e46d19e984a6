"""The files of the npm package onnxruntime-web that a page needs, fetched by npm when a build is made."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from edgevit.errors import BuildError, UnavailableError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
"""The version the page is tested with."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""WebAssembly alone, without the code for graphics cards: 14 MB in place of 41."""
INSTALL = "install Node.js with npm (Debian, Ubuntu: sudo apt-get install npm)"
PATIENCE = 300
"""Seconds for 30 MB from the registry."""


def fetch_runtime(out: Path) -> None:
    """Writes `FILES` of the package into `out`. npm checks the package's digest and keeps it in its own cache.

    Raises UnavailableError without npm, BuildError where it cannot get the package or the package lacks a file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError(f"the target web fetches {PACKAGE} with npm, which is not installed here; {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--silent"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise BuildError(
                f"expected npm to fetch {PACKAGE} in {PATIENCE} s, found it still busy; try again"
            ) from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
            raise BuildError(
                f"expected npm to fetch {PACKAGE}@{VERSION}, found: {lines[0]}; check its registry (npm ping) and the "
                "network of the machine that builds"
            )
        _unpack(archives[0], out)


def _unpack(archive: Path, out: Path) -> None:
    with tarfile.open(archive) as package:
        for name in FILES:
            try:
                member = package.extractfile(f"package/dist/{name}")
            except KeyError:
                member = None
            if member is None:
                raise BuildError(f"expected {name} in {PACKAGE} {VERSION}, found none; its layout has changed")
            (out / name).write_bytes(member.read())
