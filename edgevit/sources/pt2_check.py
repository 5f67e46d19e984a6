"""What in a torch.export archive could run code when torch loads it, refused before torch sees it.

torch.export.load (2.13) unpickles constants and sample inputs without restriction, loads compiled libraries, and hands
strings of the archive to sympy's parser, which evaluates them as Python.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pickle import UnpicklingError  # noqa: TID251 - only the error; torch.load below is restricted
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATORS = re.compile(
    r"torch\.ops\.\w+(\.\w+)+|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
)
WORDS = re.compile(
    r"[suz]+\d+|Symbol|positive|nonnegative|integer|real|True|False|int_oo|oo|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv"
    r"|CeilToInt|FloorToInt|TruncToInt|IntTrueDiv|Eq|Ne|Lt|Le|Gt|Ge|Integer"
)
SHAPES = re.compile(r"[\w\s()+\-*/,='<>]*")
"""What a dimension's expression is written with; no dot, so no attribute of anything."""
OBJECTS = ("custom_obj_", "opaque_obj_")


def check_pt2(path: Path) -> None:
    """Raises CheckpointError, in one line, for what is no torch.export archive or could run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise _unsafe(path, "two entries of one name")
            members = {name.partition("/")[2]: name for name in names}
            if not any(name.startswith("models/") for name in members):
                raise CheckpointError(
                    f"expected a torch.export archive at {path}, found a ZIP file without models/; save the program "
                    "again with torch.export.save of torch 2.9 or newer"
                )
            _check_members(archive, members, path)
    except FileNotFoundError as error:
        raise CheckpointError(f"expected a torch.export archive at {path}, found none; check the path") from error
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"expected a torch.export archive at {path}, found a damaged or foreign file "
            f"({' '.join(str(error).split())}); copy it again"
        ) from error


def _check_members(archive: zipfile.ZipFile, members: dict[str, str], path: Path) -> None:
    for name, full in members.items():
        if name.startswith(("data/aotinductor/", "data/executorch/")):
            raise _unsafe(path, f"compiled code ({name})")
        if name.endswith("_config.json"):
            _check_payloads(archive, json.loads(archive.read(full)), name, members, path)
        elif name.startswith("data/") and name.endswith(".pt"):
            _check_pickle(archive.read(full), name, path)
        elif name.startswith("models/"):
            for key, value in _strings(json.loads(archive.read(full))):
                _check_string(key, value, path)


def _check_payloads(archive: zipfile.ZipFile, config: Any, name: str, members: dict[str, str], path: Path) -> None:
    folder = name.rpartition("/")[0]
    for entry in config["config"].values() if isinstance(config, dict) and "config" in config else ():
        place = str(entry["path_name"])
        if place.startswith(OBJECTS):
            raise _unsafe(path, f"a constant that is a pickled object ({place})")
        member = members.get(f"{folder}/{place}")
        if member is None:
            raise CheckpointError(f"expected '{place}' in {path}, found no such entry; copy or save it again")
        if entry.get("use_pickle"):
            _check_pickle(archive.read(member), place, path)


def _check_pickle(content: bytes, name: str, path: Path) -> None:
    """What torch's restricted unpickler takes builds tensors and plain containers only, however it is loaded later."""
    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise _unsafe(path, f"a pickle that is more than tensors ({name})") from error


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _check_string(key: str, value: str, path: Path) -> None:
    if key == "expr_str":
        words = re.findall(r"[^\W\d]\w*", value)
        if not SHAPES.fullmatch(value) or not all(WORDS.fullmatch(word) for word in words):
            raise _unsafe(path, f"a dimension that is no arithmetic ({value[:60]!r})")
    elif key == "target" and not OPERATORS.fullmatch(value):
        raise _unsafe(path, f"an operator that is none of torch's ({value[:60]!r})")


def _unsafe(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"expected a torch.export archive of operators and tensors at {path}, found {found}; it was not loaded, "
        "because that could run code: export a plain module again"
    )
