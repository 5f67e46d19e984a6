"""What a device has to install for a build, and its wheels collected here for a device without a package index."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from edgevit.devices.wheel import requirement_of, wheel_metadata
from edgevit.errors import OutputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgevit.types import Build

RUNTIMES = {
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "ort-mobile": "onnxruntime",
    "litert": "ai-edge-litert",
}
"""Target to the one wheel that runs its builds."""
_OTHERWISE = {
    "executorch": "its Python runtime needs torch, which is too much for a device",
    "coreml": "only an application on one of Apple's systems runs it",
    "web": "a browser runs it: open the folder there",
    "tensorrt": "no wheel brings TensorRT to a Jetson: run edgevit bench there itself",
    "tensorrt-rtx": "its card and driver have to be there: run edgevit bench there itself",
}
_TEXTS = "tokenizers"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed beside edgevit: the versions that made the builds, and what edgevit would be content with."""

    exact: tuple[str, ...]
    any: tuple[str, ...]


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """What wheels a device takes, the best tags first (`manylinux_2_36_aarch64`), and its Python (`cp312`)."""

    platforms: tuple[str, ...]
    interpreter: str


def why_not_there(build: Build) -> str:
    """Why no device can be made to run this build over a connection; empty where one wheel is enough."""
    if build.target in RUNTIMES:
        return ""
    return _OTHERWISE.get(build.target, "the package that brings this target is not sent along")


def needs_of(builds: Iterable[Build], wheel: Path, *, texts: bool) -> Needs:
    metadata = wheel_metadata(wheel)
    exact: dict[str, str] = {}
    for build in builds:
        package = RUNTIMES[build.target]
        exact.setdefault(package, f"{package}=={build.engine.version}")
    further = (requirement_of(metadata, _TEXTS),) if texts else ()
    return Needs(
        exact=(*exact.values(), *further), any=(*(requirement_of(metadata, package) for package in exact), *further)
    )


def collect(wheel: Path, needs: Needs, platform: Platform, folder: Path, into: Path) -> None:
    """Fills `into` with `wheel` and all that it and `needs` require, for another platform.

    They come from `folder`; what it lacks is downloaded, with this Python's pip, and added to it. Raises
    UnavailableError where something is to be had neither way, OutputError where `folder` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {str(folder)!r}: {error.strerror}; choose another folder") from error
    found = ""
    for requirements in dict.fromkeys((needs.exact, needs.any)):
        for where in (["--no-index"], []):
            found = _download(wheel, requirements, platform, [*where, "--find-links", str(folder)], into)
            if not found:
                _keep_new(wheel, folder, into)
                return
    raise UnavailableError(
        f"expected wheels of {', '.join(needs.any)} for {platform.platforms[0]} and {platform.interpreter}, in "
        f"{str(folder)!r} or from a package index here; {found}"
    )


def _download(wheel: Path, requirements: Sequence[str], platform: Platform, where: list[str], into: Path) -> str:
    """pip's reason where it cannot; else `into` is filled."""
    shutil.rmtree(into, ignore_errors=True)
    tags = [part for name in platform.platforms for part in ("--platform", name)]
    abis = [part for name in (platform.interpreter, "abi3", "none") for part in ("--abi", name)]
    python = ["--implementation", "cp", "--python-version", platform.interpreter.removeprefix("cp")]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *quiet, *where, *tags, *abis, *python, "--dest", str(into)]
    done = subprocess.run([*command, str(wheel), *requirements], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else pip_reason(done.stderr or done.stdout)


def _keep_new(wheel: Path, folder: Path, into: Path) -> None:
    try:
        for path in into.iterdir():
            if path.name != wheel.name and not (folder / path.name).exists():
                part = folder / f".{path.name}.part"
                shutil.copyfile(path, part)
                part.replace(folder / path.name)
    except OSError as error:
        raise OutputError(f"cannot write {str(folder)!r}: {error.strerror}; choose another folder") from error


def pip_reason(text: str) -> str:
    """The line of pip's output that says why."""
    if unreachable(text):
        return "no package index can be reached"
    if "No module named pip" in text:
        return "pip is not installed; run: python -m ensurepip"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"pip says: {(errors or lines or ['nothing'])[-1][:300]}"


def lacks_version(text: str) -> bool:
    """Whether pip knows the package, and no wheel of the version that was asked for."""
    return "No matching distribution" in text and "from versions: none" not in text and not unreachable(text)


def unreachable(text: str) -> bool:
    """Whether pip failed for want of a network, and not because something does not exist."""
    return any(sign in text for sign in ("NewConnectionError", "Max retries exceeded", "ProxyError", "ConnectTimeout"))
