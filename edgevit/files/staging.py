"""Outputs that are complete or absent.

Everything is written in a hidden workplace beside its destination (`.NAME.edgevit-PID-RANDOM`, so on the same file
system), flushed to the disk and renamed. The writing process holds a lock on its workplace, which the kernel drops
when the process dies, kill -9 included; the next write to the same destination removes the workplaces that nobody
holds and puts back what one of them had moved aside. A lock and not the process number decides, because containers
that share a volume reuse the same few numbers. Writing needs a POSIX system; the rest runs anywhere.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import BuildError, EdgevitError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = ".edgevit-"
_FULL = 1 << 20
"""Bytes; with less room than this, an engine's failure to write is taken for a full disk."""

_WRITING = {
    errno.ENOSPC: "the disk is full; free some space or choose another output",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another output",
    errno.EFBIG: "it is larger than this process may write (ulimit -f); raise the limit",
    errno.EROFS: "the file system is read-only; choose another output",
}
"""What only writing can raise, wherever it happens while an output is being staged."""

_REASONS = _WRITING | {
    errno.EACCES: "permission denied; choose an output you may write to",
    errno.EPERM: "permission denied; choose an output you may write to",
    errno.ENOTDIR: "a parent of it is a file; choose another output",
    errno.EEXIST: "a parent of it is a file; choose another output",
    errno.EISDIR: "a directory has that name; choose another output",
    errno.ENOTEMPTY: "something else was written there meanwhile; run the command again",
    errno.EBUSY: "it is a mount point; choose a directory inside it",
    errno.EXDEV: "it is a mount point; choose a directory inside it",
}

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""File systems without locks: written to all the same, only never swept."""


def is_workplace(name: str) -> bool:
    """Whether a file of this name is a workplace: one being written now, or what a killed process left."""
    return name.startswith(".") and re.fullmatch(r".+" + re.escape(_MARK) + r"\d+-\w+", name) is not None


# ------------------------------------------------------------------------------------------------ writing


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file, or replaces it, so that a reader sees the old content or the new one. Raises OutputError."""
    with staged_file(path) as stage, _explained(path):
        stage.write_bytes(data)


@contextmanager
def staged_file(final: Path) -> Iterator[Path]:
    """Yields a path to write one file at; on success the file becomes `final`, replacing an older one.

    On any exception, Ctrl-C included, `final` stays as it was. Raises OutputError where the disk refuses.
    """
    final = _destination(final)
    with _workplace(final) as place:
        stage = place / "new"
        yield stage
        with _explained(final):
            _flush(stage)
            stage.replace(final)
            _flush(final.parent)


@contextmanager
def staged_directory(final: Path, *, replace: bool = False, marker: str | None = None) -> Iterator[Path]:
    """Yields an empty directory to fill; on success it becomes `final`, whole.

    On any exception, Ctrl-C included, everything is removed and `final` stays as it was. An existing `final` that is
    not empty is refused, unless `replace`: then it is moved aside, the new one renamed in, and the old one removed.
    With `marker`, only a directory that holds a file of that name is replaced, so that a mistyped output never
    deletes somebody's folder. Raises OutputError: `final` exists, cannot be written, or the disk is full.
    """
    final = _destination(final)
    with _workplace(final) as place:
        _check_replaceable(final, replace, marker)
        stage = place / "new"
        with _explained(final):
            stage.mkdir()
        yield stage
        with _explained(final):
            for directory, _, names in os.walk(stage, topdown=False):
                for name in names:
                    _flush(Path(directory, name))
                _flush(Path(directory))
            _check_replaceable(final, replace, marker)
            if final.exists():
                final.rename(place / "old")
            stage.rename(final)
            _flush(final.parent)


def _destination(final: Path) -> Path:
    """Resolved, so that a link to a directory on another disk is staged there and not beside the link."""
    resolved = Path(os.path.realpath(final))
    if not resolved.name:
        raise OutputError(f"cannot write {str(final)!r}: expected the path of a new file or directory, found a root")
    return resolved


def _check_replaceable(final: Path, replace: bool, marker: str | None) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise OutputError(f"output {str(final)!r} is a file, expected a directory or nothing; choose another output")
    with _explained(final):
        names = sorted(path.name for path in final.iterdir())
    if not names:
        return
    if not replace:
        raise OutputError(f"output {str(final)!r} exists already; choose another, or replace it with --force")
    if marker is not None and marker not in names:
        raise OutputError(
            f"output {str(final)!r} exists and holds no {marker} (found {names[0]!r}), so --force will not replace it; "
            "choose another output, or remove it yourself"
        )


@contextmanager
def _workplace(final: Path) -> Iterator[Path]:
    """A locked hidden directory beside `final`, gone afterwards, whatever happens.

    `new` in it is what is being written; `old` is what stood at `final` while the two change places.
    """
    with _parents(final):
        with _explained(final):
            _sweep(final)
            place, lock = _claim(final)
        try:
            yield place
        except Exception as error:
            # A BuildError is what an engine said; of a full disk it says nothing that would help.
            clear = isinstance(error, EdgevitError) and not isinstance(error, BuildError)
            reason = None if clear else _write_failure(error, place)
            if reason is not None:
                raise OutputError(f"cannot write {str(final)!r}: {reason}") from error
            raise
        finally:
            _discard(place, lock, final)


@contextmanager
def _parents(final: Path) -> Iterator[None]:
    """Makes the missing directories above `final`; those that stay empty are removed again."""
    with _explained(final):
        missing = [parent for parent in final.parents if not parent.exists()]
    try:
        with _explained(final):
            final.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # not empty: the output, or somebody else's file, is in it
            for parent in missing:
                parent.rmdir()


def _claim(final: Path) -> tuple[Path, int]:
    """A new locked workplace and the descriptor that holds its lock."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".{final.name}{_MARK}{os.getpid()}-", dir=final.parent))
        try:
            lock = _lock(place)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = os.open(place / "lock", os.O_RDWR)
        if lock is not None:
            return place, lock
        # Another process swept it between the two calls: take a new one.


def _lock(place: Path) -> int | None:
    """A descriptor that holds the lock of a workplace; None while another process holds it, or when it is gone.

    The lock is on a regular file opened for writing: NFS has none on directories.
    """
    import fcntl

    try:
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), (place / "lock").stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _sweep(final: Path) -> None:
    """Removes the workplaces of `final` whose process is dead, putting back an output that one had moved aside."""
    pattern = re.compile(re.escape(f".{final.name}{_MARK}") + r"\d+-\w+")
    for place in [path for path in final.parent.iterdir() if pattern.fullmatch(path.name)]:
        with suppress(OSError):  # another user's, or no locks on this file system: left alone
            lock = _lock(place)
            if lock is not None:
                _discard(place, lock, final)


def _discard(place: Path, lock: int, final: Path) -> None:
    """Removes a workplace and lets go of it. If the change of places was cut short, the old output goes back first."""
    aside = place / "old"
    try:
        if aside.exists() and not final.exists():
            aside.rename(final)
        shutil.rmtree(place, ignore_errors=True)  # what cannot be removed now is swept by the next write
    except OSError as error:
        raise OutputError(
            f"cannot put back {str(final)!r}: {_reason(error)}; the previous output is kept in {str(aside)!r}"
        ) from error
    finally:
        os.close(lock)


def _flush(path: Path) -> None:
    """Forces a file's or a directory's content to the disk, so that a rename never outlives what it names."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no fsync of directories
            raise
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------- errors


@contextmanager
def _explained(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {str(final)!r}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    code = error.errno or 0
    text = _REASONS.get(code) or error.strerror or str(error)
    return f"{text} ({errno.errorcode[code]})" if code in errno.errorcode else text


def _write_failure(error: Exception, place: Path) -> str | None:
    """Why the disk refused, where `error` comes from that; None where it has another cause.

    Engines report a full disk as an exception of their own without an error number, hence the look at the free space.
    """
    if isinstance(error, OSError):
        paths = [name for name in (error.filename, error.filename2) if isinstance(name, str)]
        staged = error.errno in _REASONS and any(Path(name).is_relative_to(place) for name in paths)
        if staged or error.errno in _WRITING:
            return _reason(error)
    if shutil.disk_usage(place).free < _FULL:
        return f"{_WRITING[errno.ENOSPC]} (ENOSPC)"
    return None
