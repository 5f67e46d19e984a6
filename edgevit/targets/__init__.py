"""One file per target: can it build here, build; can it run here, open.

`get_target` finds the built-in ones and those that other packages add through the entry-point group `edgevit.targets`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from edgevit.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    from edgevit.targets.base import Target
    from edgevit.types import Precision

MOBILE = ("ort-mobile", "executorch", "litert", "coreml", "web")
BUILT_IN = ("openvino", "onnxruntime", *MOBILE, "tensorrt-rtx", "tensorrt")
"""A name's hyphens are underscores in its module."""
ENTRY_POINTS = "edgevit.targets"


def target_names() -> tuple[str, ...]:
    """Every target known here, built-in ones first."""
    others = sorted(point.name for point in _entry_points() if point.name not in BUILT_IN)
    return (*BUILT_IN, *others)


def get_target(name: str) -> Target:
    """The target of that name; raises InputError that lists the choices."""
    if name in BUILT_IN:
        return cast("Target", importlib.import_module(f"edgevit.targets.{name.replace('-', '_')}"))
    for point in _entry_points():
        if point.name == name:
            return cast("Target", point.load())
    raise InputError(f"expected a target, one of {', '.join(target_names())}; found {name!r}")


def _entry_points() -> EntryPoints:
    # Imported for the targets of other packages only: it takes a quarter of what loading a bundle may cost.
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINTS)


def on_cpu(name: str) -> bool:
    """Whether the target's builds run on the processor; a target for another device has a name `device`."""
    return getattr(get_target(name), "device", "CPU") == "CPU"


def parse_target(text: str) -> tuple[str, Precision]:
    """`openvino:int8` as (target, precision); without a precision it is float32. Lists the choices in its errors."""
    name, _, precision = text.partition(":")
    target = get_target(name)
    wanted = precision or "float32"
    if wanted not in target.precisions:
        raise InputError(
            f"expected a precision of {name}, one of {', '.join(target.precisions)}; found {wanted!r} in {text!r}"
        )
    return name, wanted
