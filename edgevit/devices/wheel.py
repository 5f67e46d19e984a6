"""The wheel of edgevit as it is running: of an installed one, an editable one or a source tree, the same bytes."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from edgevit import errors
from edgevit.errors import UnavailableError

_TIME = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgevit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path, version: str) -> Path:
    """Writes `edgevit-VERSION-py3-none-any.whl` into `folder`: every file of the package, none of its caches.

    The description is pyproject.toml's where the package lies beside one, else that of the installation. Raises
    UnavailableError where there is neither.
    """
    package = Path(errors.__file__).parent
    description, commands = _described(package, version)
    info = f"edgevit-{version}.dist-info"
    texts = {f"{info}/METADATA": description, f"{info}/WHEEL": _WHEEL, f"{info}/entry_points.txt": commands}
    path = folder / f"edgevit-{version}-py3-none-any.whl"
    lines = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:

        def add(name: str, content: bytes) -> None:
            # The same content gives the same wheel, so that a device can tell that it has it.
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(content)}\n")

        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                add(file.relative_to(package.parent).as_posix(), file.read_bytes())
        for name, text in texts.items():
            add(name, text.encode())
        record = f"{info}/RECORD"
        archive.writestr(zipfile.ZipInfo(record, _TIME), "".join(lines) + f"{record},,\n", zipfile.ZIP_DEFLATED)
    return path


def _described(package: Path, version: str) -> tuple[str, str]:
    """METADATA and entry_points.txt."""
    source = package.parent / "pyproject.toml"
    if source.is_file():
        project = tomllib.loads(source.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "edgevit":
            return _metadata(project, version), _entry_points(project.get("scripts", {}))
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        installed = distribution("edgevit")
    except PackageNotFoundError as error:
        raise UnavailableError(
            f"expected edgevit installed, or its pyproject.toml beside it, found neither at {str(package)!r}; run: "
            "pip install edgevit"
        ) from error
    metadata = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    return metadata, installed.read_text("entry_points.txt") or ""


def _metadata(project: dict[str, Any], version: str) -> str:
    lines = ["Metadata-Version: 2.1", "Name: edgevit", f"Version: {version}"]
    lines.append(f"Requires-Python: {project['requires-python']}")
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    for extra, requirements in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for requirement in requirements:
            name, _, marker = requirement.partition(";")
            condition = f'({marker.strip()}) and extra == "{extra}"' if marker else f'extra == "{extra}"'
            lines.append(f"Requires-Dist: {name.strip()} ; {condition}")
    return "\n".join(lines) + "\n"


def _entry_points(scripts: dict[str, str]) -> str:
    return "[console_scripts]\n" + "".join(f"{name} = {where}\n" for name, where in scripts.items())


def requirement_of(metadata: str, package: str) -> str:
    """What an extra of edgevit asks of a package (`onnxruntime>=1.20`); the bare name where none names a version."""
    for line in metadata.splitlines():
        found = re.match(r"Requires-Dist: ([A-Za-z0-9._-]+)\s*([^;]*)", line)
        if found and found.group(1).lower().replace("_", "-") == package and found.group(2).strip(" ()"):
            return f"{package}{found.group(2).strip(' ()')}"
    return package


def wheel_metadata(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()
