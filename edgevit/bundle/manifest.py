"""`manifest.json`: what a bundle holds, where it comes from, and the size and SHA-256 of every file in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import BundleError
from edgevit.files import check_relative, sha256, write_atomic
from edgevit.types import Build, BuildFile, Generation, Machine, Preprocess, Signature, Task, TextPreprocess, Value

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
DRAFT = "manifest.draft.json"
"""The manifest of a bundle whose builds are still being proved and measured: nothing loads such a directory."""
SCHEMA = 1
_LARGEST = 1 << 26
"""Bytes; a manifest is a few hundred kilobytes even with every layer of ViT-L listed for several builds."""


class CalibrationFacts(Value, frozen=True, kw_only=True):
    """What the int8 builds were calibrated on, and that it was not what they were judged on."""

    set: str
    set_digest: str
    samples: int
    seed: int = 0
    statistics_digest: str = ""
    coverage: str = ""
    """How well the samples cover the classes, in one sentence."""


class EvaluationFacts(Value, frozen=True, kw_only=True):
    """What the builds were judged on; `reference.npz` holds the float reference's outputs for it, in its order."""

    set: str
    """SET as it was given: what `edgevit parity` opens when it is told no other."""
    set_digest: str
    samples: int
    label_map: dict[str, str] = {}
    """From what the set calls its classes to what the model calls them, where they differ."""


class Manifest(Value, frozen=True, kw_only=True):
    """The content of `manifest.json`. Paths are relative to the bundle, with forward slashes."""

    schema: int = SCHEMA
    edgevit: str
    """The version of edgevit that wrote it."""
    model: str
    source_digest: str
    """SHA-256 over architecture and parameters of the float model."""
    signature: Signature
    task: Task
    preprocess: Preprocess
    labels: tuple[str, ...]
    trained: bool
    toolchain: dict[str, str]
    """Package name to the version that took part in the export."""
    machine: Machine
    """Where the export ran."""
    builds: tuple[Build, ...]
    files: tuple[BuildFile, ...] = ()
    """Everything that belongs to no build: plan.toml, golden.npz, report.html, report.json, tokenizers."""
    generation: Generation | None = None
    """How the decoder of an encoder-decoder is run; None for a model that gives its result in one call."""
    calibration: CalibrationFacts | None = None
    evaluation: EvaluationFacts | None = None
    budget_points: float = 0.5
    """How many percentage points of the task's metric a build may lose and still pass."""


class _Version(msgspec.Struct):
    """All that is read of a manifest before it is known that the rest can be understood."""

    schema: int


def describe_file(root: Path, path: Path) -> BuildFile:
    """The manifest's entry for the file `path` below the bundle `root`."""
    relative = path.relative_to(root).as_posix()
    check_relative(relative, root)
    return BuildFile(path=relative, size=path.stat().st_size, sha256=sha256(path))


def describe_directory(root: Path, directory: Path) -> tuple[BuildFile, ...]:
    """The entries of every file below `directory`, in the order of their paths."""
    return tuple(describe_file(root, path) for path in sorted(directory.rglob("*")) if path.is_file())


def write_manifest(root: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Writes `root/manifest.json` in one step, after everything that it lists. Raises OutputError, BundleError."""
    path = root / name
    _check_paths(manifest, path)
    _check_texts(manifest, path)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(path: Path) -> Manifest:
    """Reads a `manifest.json`; the paths in it are checked, the files behind them are not (see `verify_files`).

    Raises BundleError: unreadable, not JSON (with line and column), an unknown or missing field or a wrong type (with
    its place), a version from the future, or a path that leads out of the bundle.
    """
    data = _read(path)
    try:
        schema = msgspec.json.decode(data, type=_Version).schema
        if schema > SCHEMA:
            raise BundleError(
                f"{str(path)!r} has schema version {schema}, this edgevit reads up to version {SCHEMA}; "
                "run: pip install --upgrade edgevit"
            )
        if schema < 1:
            raise BundleError(f"{str(path)!r} has schema version {schema}, expected 1 to {SCHEMA}; export it again")
        manifest = msgspec.convert(_of_any_age(msgspec.json.decode(data)), Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"{str(path)!r} is no manifest of edgevit: {one_line(error)}; export the bundle again"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{str(path)!r} is not valid JSON at {_position(data, error)}; copy it again") from error
    _check_paths(manifest, path)
    _check_texts(manifest, path)
    return manifest


def _of_any_age(content: Any) -> Any:
    """What is written today of a manifest that an earlier edgevit wrote, which knew images only."""
    if isinstance(content, dict) and isinstance(content.get("preprocess"), dict):
        content["preprocess"].setdefault("kind", "image")
    return content


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise BundleError(
                f"{str(path)!r} has {size} bytes, expected a manifest of at most {_LARGEST}; copy it again"
            )
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{str(path)!r} cannot be read: {error.strerror}; expected a manifest of edgevit") from error


def _position(data: bytes, error: Exception) -> str:
    """`line 3, column 7 (truncated)`, from the byte that msgspec names; without one, the data ends too early."""
    found = re.search(r"\(byte (\d+)\)", str(error))
    offset = int(found.group(1)) if found else len(data)
    line = data.count(b"\n", 0, offset) + 1
    column = offset - data.rfind(b"\n", 0, offset)
    reason = re.sub(r" ?\(byte \d+\)$", "", one_line(error)).removeprefix("JSON is malformed: ")
    return f"line {line}, column {column} ({reason})"


def _check_paths(manifest: Manifest, path: Path) -> None:
    """Each build in a directory of its own name, each file listed once, and every path within the bundle."""
    seen: set[str] = set()
    for build in manifest.builds:
        check_relative(build.name, path)
        if "/" in build.name or build.name in seen:
            raise BundleError(f"{str(path)!r} lists the build {build.name!r} twice or in a path; export it again")
        seen.add(build.name)
        for file in build.files:
            if not file.path.startswith(f"{build.name}/"):
                raise BundleError(
                    f"{str(path)!r} lists {file.path!r} for the build {build.name!r}, expected a path below "
                    f"'{build.name}/'; export the bundle again"
                )
        _check_parts(build, path)
    for file in listed_files(manifest):
        check_relative(file.path, path)
        if file.path in seen or file.path == MANIFEST:
            raise BundleError(f"{str(path)!r} lists the file {file.path!r} twice or lists itself; export it again")
        seen.add(file.path)


def _check_parts(build: Build, path: Path) -> None:
    """Each part in a sub-directory of its own name, with at least one file."""
    names = [part.name for part in build.parts]
    for name in names:
        check_relative(name, path)
        below = f"{build.name}/{name}/"
        if "/" in name or names.count(name) > 1 or not any(file.path.startswith(below) for file in build.files):
            raise BundleError(
                f"{str(path)!r} lists the part {name!r} of the build {build.name!r}, expected each part once and with "
                f"files below {below!r}; export the bundle again"
            )


def _check_texts(manifest: Manifest, path: Path) -> None:
    """Tokenizers are files of the bundle, and the model's own one is the one it was trained with."""
    spec = manifest.preprocess
    wanted = {} if not isinstance(spec, TextPreprocess) else {spec.tokenizer: spec.tokenizer_sha256}
    if manifest.generation is not None:
        wanted.setdefault(manifest.generation.tokenizer, "")
    digests = {file.path: file.sha256 for file in manifest.files}
    for name, digest in wanted.items():
        if name not in digests:
            raise BundleError(
                f"{str(path)!r} names the tokenizer {name!r}, expected it among its files; export the bundle again"
            )
        if digest and digest != digests[name]:
            raise BundleError(
                f"{str(path)!r} lists {name!r} with SHA-256 {digests[name]}, expected the model's own tokenizer "
                f"{digest}; export the bundle again"
            )


def listed_files(manifest: Manifest) -> tuple[BuildFile, ...]:
    """Every file a manifest answers for: the builds' own, then the rest."""
    return (*(file for build in manifest.builds for file in build.files), *manifest.files)


def one_line(error: Exception) -> str:
    """What a library says about foreign data, which may quote that data, as the part of a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
