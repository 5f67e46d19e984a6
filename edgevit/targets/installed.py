"""The installed version of a package, in a tenth of a millisecond, and what it makes available."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress

from edgevit.targets.base import Availability


def installed_version(*packages: str) -> str | None:
    """The version of the first of `packages` that is installed, None where none is.

    Read off the name of its `.dist-info` folder. `importlib.metadata` takes 11 ms to import and some more to look, of
    the 50 ms that loading a bundle may cost; it is asked only where no folder says anything.
    """
    for package in packages:
        found = _from_folder(package) or _from_metadata(package)
        if found is not None:
            return found
    return None


def with_exporter(version: str | None, install: str) -> Availability:
    """Of an engine that runs builds and, beside what the `export` extra brings, makes them.

    `version` is None where a package of the engine is missing, which `install` brings.
    """
    if version is None:
        return Availability(build=False, run=False, build_fix=install, run_fix=install)
    builds = installed_version("onnx-ir") is not None
    fix = "" if builds else "pip install 'edgevit[export]'"
    return Availability(build=builds, run=True, version=version, build_fix=fix)


def _from_folder(package: str) -> str | None:
    wanted = _normalized(package)
    for place in sys.path:
        with suppress(OSError):  # a path that is no folder, as `python312.zip`, holds no such folder
            for entry in os.scandir(place or "."):
                name = entry.name
                project, _, version = name.removesuffix(".dist-info").partition("-")
                if name.endswith(".dist-info") and _normalized(project) == wanted:
                    return version
    return None


def _from_metadata(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _normalized(name: str) -> str:
    """One spelling for all that the packaging rules take for the same name."""
    return re.sub(r"[-_.]+", "-", name).lower()
