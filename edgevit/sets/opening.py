"""From what a person writes as SET to a `SampleSet`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevit.errors import SetError
from edgevit.files import check_relative, inside
from edgevit.sets.folder import open_folder
from edgevit.sets.sample import SampleSet
from edgevit.sets.select import skip_corrupt, take
from edgevit.sets.sheet import SheetManifest, open_sheet
from edgevit.types import Value

ZOO_SETS = {"digits-vit": "digits"}
"""Zoo models with sets of their own, and the folder of this package that holds their sheets."""
PARTS = ("calibration", "evaluation")


class SetManifest(Value, frozen=True, kw_only=True):
    """A set's TOML file: `set` or a `[sheet]`, and what to take of it."""

    name: str = ""
    """Empty: the file's own name."""
    set: str = ""
    """`zoo:MODEL:PART`, or a folder or another manifest: a relative path inside this file's folder, `.` for itself."""
    sheet: SheetManifest | None = None
    count: int | None = None
    """How many samples to take, stratified by label; None for all."""
    seed: int = 0
    skip_corrupt: bool = False
    """Leave out, and report, images that cannot be decoded; otherwise they are an error."""


def open_set(spec: str | Path) -> SampleSet:
    """Opens SET: a `.toml` manifest, a folder of images, or `zoo:MODEL:calibration` and `zoo:MODEL:evaluation`.

    Raises SetError, one line, for a missing path, an empty folder, a wrong manifest (the key is named) and whatever
    `open_folder`, `open_sheet` and `take` refuse. Images are not decoded, except a sheet and with `skip_corrupt`.
    """
    return _open(spec, ())


def _open(spec: str | Path, opened: tuple[Path, ...]) -> SampleSet:
    """`opened` are the manifests on the way here, so that a circle of them is an error and not a hang."""
    if isinstance(spec, str) and spec.startswith("zoo:"):
        return _open_zoo(spec)
    path = Path(spec)
    if path.is_dir():
        return open_folder(path)
    if not path.exists():
        raise SetError(
            f"{spec}: expected a folder of images, a .toml manifest or zoo:MODEL:PART, found nothing there; "
            "check the path"
        )
    if path.suffix.lower() != ".toml":
        raise SetError(f"{spec}: expected a folder of images or a .toml manifest, found another kind of file")
    if path.resolve() in opened:
        raise SetError(
            f"{spec}: expected a set, found manifests that name each other in a circle; change its key 'set'"
        )
    return _open_manifest(path, (*opened, path.resolve()))


def _open_zoo(spec: str) -> SampleSet:
    choices = [f"zoo:{model}:{part}" for model in ZOO_SETS for part in PARTS]
    if spec not in choices:
        raise SetError(f"expected one of {', '.join(choices)}, found {spec!r}")
    _, model, part = spec.split(":")
    return open_set(Path(__file__).parent / ZOO_SETS[model] / f"{part}.toml")


def _open_manifest(path: Path, opened: tuple[Path, ...]) -> SampleSet:
    manifest = read_manifest(path)
    name = manifest.name or path.stem
    if manifest.sheet is not None:
        samples = open_sheet(manifest.sheet, name, path)
    elif manifest.set.startswith("zoo:"):
        samples = _open_zoo(manifest.set)
    else:
        samples = _open(_named_by(path, manifest.set), opened)
    samples = msgspec.structs.replace(samples, name=name)
    if manifest.skip_corrupt:
        samples = skip_corrupt(samples)
    return samples if manifest.count is None else take(samples, manifest.count, manifest.seed)


def _named_by(manifest: Path, relative: str) -> Path:
    """The path that a manifest names; it stays inside the manifest's folder, or is that folder (`.`)."""
    if relative == ".":
        return manifest.parent
    check_relative(relative.rstrip("/"), manifest, SetError)
    return inside(manifest.parent, relative.rstrip("/"), SetError)


def read_manifest(path: Path) -> SetManifest:
    """Decodes and checks a manifest. Raises SetError, naming the file and the key."""
    try:
        manifest = msgspec.toml.decode(path.read_bytes(), type=SetManifest)
    except OSError as error:
        raise SetError(f"{path}: the manifest cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        known = ", ".join(SetManifest.__struct_fields__)
        raise SetError(f"{path}: {error}; the keys of a set are {known}") from error
    if bool(manifest.set) == (manifest.sheet is not None):
        found = "both" if manifest.set else "neither"
        raise SetError(f"{path}: expected either the key 'set' or the table [sheet], found {found}")
    return manifest
