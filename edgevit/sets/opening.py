"""From what a person writes as SET to a `SampleSet`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevit.errors import SetError
from edgevit.files import check_relative, inside
from edgevit.files.python import names_function
from edgevit.sets.folder import open_folder
from edgevit.sets.iterable import open_iterable
from edgevit.sets.prepared import open_prepared
from edgevit.sets.reservoir import Wanted
from edgevit.sets.sample import SampleSet
from edgevit.sets.select import skip_corrupt, take
from edgevit.sets.sheet import SheetManifest, open_sheet
from edgevit.sets.texts import TEXT_SUFFIXES, TRUTHS, for_task, open_texts
from edgevit.types import Task, Value

ZOO_SETS = {"digits-vit": "digits", "phrases": "phrases"}
"""Sets of the zoo, and the folder of this package that holds them: sheets of images, or files of texts."""
PARTS = ("calibration", "evaluation")


class SetManifest(Value, frozen=True, kw_only=True):
    """A set's TOML file: `set` or a `[sheet]`, and what to take of it."""

    name: str = ""
    """Empty: the file's own name."""
    set: str = ""
    """`zoo:NAME:PART`, or a folder, a file of texts or another manifest: a relative path inside this file's folder, `.`
    for itself."""
    sheet: SheetManifest | None = None
    count: int | None = None
    """How many samples to take, stratified by label; None for all."""
    seed: int = 0
    skip_corrupt: bool = False
    """Leave out, and report, images and texts that cannot be read; otherwise they are an error."""


def open_set(spec: str | Path, task: Task | None = None, most: Wanted | None = None) -> SampleSet:
    """Opens SET: a `.toml` manifest, a folder of images, a file of texts, a `.npz` of prepared tensors,
    `zoo:NAME:calibration|evaluation`, or `package.module:function`, which yields samples.

    Of a set of texts `task` picks the truth; without it all there is stays. Of samples that come only once (a function
    that returns one iterator) no more than `most` are kept; of all others `take` chooses. Raises SetError, one line,
    for a missing path, an empty folder, a wrong manifest (the key is named), a set that is not of the task's kind, and
    whatever `open_folder`, `open_texts`, `open_sheet` and `take` refuse. Images are not decoded, except a sheet, what
    Python code yields anew, and with `skip_corrupt`.
    """
    samples = open_iterable(spec, most) if isinstance(spec, str) and names_function(spec) else _open(spec, ())
    wanted = "text" if task in TRUTHS else "image"
    if task is None or (wanted == "image" and samples.kind in ("image", "tensor")):
        return samples
    return for_task(samples, task, spec)


def _open(spec: str | Path, opened: tuple[Path, ...]) -> SampleSet:
    """`opened` are the manifests on the way here, so that a circle of them is an error and not a hang."""
    if isinstance(spec, str) and spec.startswith("zoo:"):
        return _open_zoo(spec)
    path = Path(spec)
    if path.is_dir():
        return open_folder(path)
    if not path.exists():
        raise SetError(
            f"{spec}: expected a folder of images, a file of texts, a .npz of tensors, a .toml manifest, zoo:NAME:PART "
            "or package.module:function, found nothing there; check the path"
        )
    if path.suffix.lower() == ".npz":
        return open_prepared(path)
    if path.suffix.lower() in TEXT_SUFFIXES:
        return open_texts(path)
    if path.suffix.lower() != ".toml":
        raise SetError(
            f"{spec}: expected a folder of images, texts ({', '.join(TEXT_SUFFIXES)}), a .npz or a .toml manifest, "
            "found another kind of file"
        )
    if path.resolve() in opened:
        raise SetError(
            f"{spec}: expected a set, found manifests that name each other in a circle; change its key 'set'"
        )
    return _open_manifest(path, (*opened, path.resolve()))


def _open_zoo(spec: str) -> SampleSet:
    choices = [f"zoo:{name}:{part}" for name in ZOO_SETS for part in PARTS]
    if spec not in choices:
        raise SetError(f"expected one of {', '.join(choices)}, found {spec!r}")
    _, name, part = spec.split(":")
    folder = Path(__file__).parent / ZOO_SETS[name]
    if (folder / f"{part}.jsonl").exists():
        return msgspec.structs.replace(open_texts(folder / f"{part}.jsonl"), name=f"{name}-{part}")
    return open_set(folder / f"{part}.toml")


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
