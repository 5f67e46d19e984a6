"""A bundle on disk: found, checked against its manifest, and asked for its builds."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgevit.bundle.manifest import MANIFEST, Manifest, listed_files, read_manifest
from edgevit.errors import BundleError, InputError
from edgevit.files import inside, is_workplace, sha256
from edgevit.types import Value

if TYPE_CHECKING:
    from edgevit.types import Build, BuildFile

Check = Literal["manifest", "sizes", "hashes"]
"""What is compared with the manifest before a bundle is used; each includes the one before it."""


class FileProblem(Value, frozen=True, kw_only=True):
    """One way in which the files differ from the manifest."""

    path: str
    """Relative to the bundle, with forward slashes."""
    kind: Literal["missing", "unreadable", "wrong size", "wrong hash", "unlisted", "outside"]
    expected: str = ""
    found: str = ""

    @property
    def message(self) -> str:
        """One line without the bundle's name: what was expected and what was found."""
        return {
            "missing": f"{self.path!r} is missing, expected a file of {self.expected}",
            "unreadable": f"{self.path!r} cannot be read: expected {self.expected}, found {self.found}",
            "wrong size": f"{self.path!r} has the wrong size: expected {self.expected}, found {self.found}",
            "wrong hash": f"{self.path!r} has the wrong SHA-256: expected {self.expected}, found {self.found}",
            "unlisted": f"{self.path!r} is not listed in the manifest",
            "outside": f"{self.path!r} leads out of the bundle",
        }[self.kind]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A directory and its manifest."""

    root: Path
    manifest: Manifest

    def builds(self, wanted: str | None = None) -> tuple[Build, ...]:
        """All builds, or those named by `TARGET`, `TARGET:PRECISION` or `TARGET-PRECISION`; at least one.

        Raises InputError with the choices.
        """
        if wanted is None:
            return self.manifest.builds
        found = tuple(
            build
            for build in self.manifest.builds
            if wanted in (build.target, build.name, f"{build.target}:{build.precision}")
        )
        if not found:
            choices = ", ".join(f"{build.target}:{build.precision}" for build in self.manifest.builds) or "no build"
            raise InputError(f"no build {wanted!r} in the bundle {str(self.root)!r}; expected one of: {choices}")
        return found

    def directory(self, build: Build) -> Path:
        """Where the engine's own files of `build` are. Raises BundleError if it leads out of the bundle."""
        return inside(self.root, build.name)


def open_bundle(path: Path | str, *, check: Check = "sizes", name: str = MANIFEST) -> Bundle:
    """Opens a bundle for use. `check="hashes"` reads every listed file once; `name` is the manifest's.

    Raises InputError where there is no directory at all, and BundleError for a directory that is no intact bundle: no
    manifest or a bad one, a file that is missing, has the wrong size or hash, or leads out.
    """
    root = Path(path)
    try:
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise InputError(
                f"no bundle at {str(root)!r}: expected a directory that edgevit export wrote, found {found}"
            )
        if not os.path.lexists(root / name):
            raise BundleError(f"{str(root)!r} is not a bundle: expected {name} in it, found {_content(root)}")
    except OSError as error:
        raise InputError(f"no bundle at {str(root)!r}: it cannot be read ({error.strerror}); check the path") from error
    bundle = Bundle(root=root, manifest=read_manifest(inside(root, name)))
    if check != "manifest":
        problems = _file_problems(bundle, hashes=check == "hashes")
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise BundleError(
                f"the bundle {str(root)!r} is damaged: {problems[0].message}{more}; copy or export it again"
            )
    return bundle


def verify_files(bundle: Bundle) -> tuple[FileProblem, ...]:
    """Every difference between the files and the manifest, by content; empty for an intact bundle.

    Unlisted files are reported too: an engine may pick up what lies beside its own files. Workplaces that a killed
    process left are not: nothing reads them, and the next write removes them.
    """
    listed = {file.path for file in listed_files(bundle.manifest)} | {MANIFEST}
    unlisted = tuple(
        FileProblem(path=path, kind="unlisted") for path in _paths_below(bundle.root) if path not in listed
    )
    return _file_problems(bundle, hashes=True) + unlisted


def _file_problems(bundle: Bundle, *, hashes: bool) -> tuple[FileProblem, ...]:
    problems = (_file_problem(bundle.root, file, hashes) for file in listed_files(bundle.manifest))
    return tuple(problem for problem in problems if problem is not None)


def _file_problem(root: Path, file: BuildFile, hashes: bool) -> FileProblem | None:
    size = f"{file.size} bytes"
    try:
        path = inside(root, file.path)
    except BundleError:
        return FileProblem(path=file.path, kind="outside")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait forever
            return FileProblem(path=file.path, kind="unreadable", expected="a file", found="something else")
        if found.st_size != file.size:
            return FileProblem(path=file.path, kind="wrong size", expected=size, found=f"{found.st_size} bytes")
        digest = sha256(path) if hashes else file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return FileProblem(path=file.path, kind="missing", expected=size)
    except OSError as error:
        reason = error.strerror or str(error)
        return FileProblem(path=file.path, kind="unreadable", expected=size, found=reason)
    if digest != file.sha256:
        return FileProblem(path=file.path, kind="wrong hash", expected=file.sha256, found=digest)
    return None


def _paths_below(root: Path) -> list[str]:
    """Files and links below `root`, without workplaces; links are not followed."""
    paths = []
    for directory, directories, files in os.walk(root):
        links = [name for name in directories if Path(directory, name).is_symlink()]
        directories[:] = [name for name in directories if not is_workplace(name)]
        paths += [Path(directory, name).relative_to(root).as_posix() for name in (*files, *links)]
    return sorted(paths)


def _content(root: Path) -> str:
    """A few names of what a directory holds, for an error message."""
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    if not names:
        return "nothing (the directory is empty)"
    return ", ".join(repr(name) for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
