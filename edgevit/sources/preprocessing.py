"""A Hugging Face `preprocessor_config.json` as an `ImagePreprocess`. What cannot be said in it is refused, not guessed.

The steps of the standard image processors (transformers' `image_processing_backends.py`) are resize, centre crop,
rescale, normalize, in this order. Files written by older versions leave out keys that have their processor's default;
those defaults are `_FAMILIES`, from transformers' `image_processing_*.py` of each family.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError
from edgevit.types import ImagePreprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "preprocessor_config.json"
GIVE_ONE = (
    f"put the {FILE} that was published with the model beside it, or give --preprocess FILE: a {FILE} or a TOML with "
    "size, mean and std"
)

_SQUARE = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True, "square": True}
_CROPPED = {**_SQUARE, "do_center_crop": True, "square": False, "size": 224, "crop_size": 224, "resample": 3}
_FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "ViT": {**_SQUARE, "size": 224, "resample": 2},
    "DeiT": {**_CROPPED, "square": True, "size": 256},
    "Beit": {**_SQUARE, "size": 224, "crop_size": 224, "resample": 3},
    "Bit": _CROPPED,
    "CLIP": _CROPPED,
    "Siglip": {**_SQUARE, "size": 224, "resample": 3},
    "MobileViT": {**_CROPPED, "crop_size": 256, "do_normalize": False, "do_flip_channel_order": True},
    "ConvNext": {**_SQUARE, "square": False, "size": 384, "resample": 3, "crop_pct": 224 / 256},
}
"""Image processor to the defaults of the keys its file may leave out; `square`: what a `size` of one number means."""

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_ALLOWED = {"do_convert_rgb": (True, False, None), "do_pad": (False, None), "do_reduce_labels": (False, None)}
_WHOLE = 384
"""ConvNeXT's processor warps to the square from this side on, and crops below it."""


def read_preprocess(path: Path) -> ImagePreprocess:
    """The preprocessing in a `preprocessor_config.json`, or in a TOML of `ImagePreprocess`.

    Raises InputError that names the key which is missing, unknown to `ImagePreprocess` or of the wrong kind.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected preprocessing at {path}, which cannot be read: {error.strerror}; {GIVE_ONE}"
        ) from error
    try:
        if path.suffix == ".toml":
            values = {"kind": "image", **msgspec.toml.decode(content, type=dict[str, Any])}
            return msgspec.convert(values, ImagePreprocess)
        config = json.loads(content)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        raise InputError(
            f"expected preprocessing at {path}, found: {' '.join(str(error).split())}; {GIVE_ONE}"
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"expected one JSON object at {path}, found {type(config).__name__}; {GIVE_ONE}")
    return preprocess_from_config(config, path)


def preprocess_from_config(config: dict[str, Any], path: Path) -> ImagePreprocess:
    """The same from the file's content; `path` is for errors."""
    settings = {**_defaults(config, path), **config}
    _refuse_other_steps(settings, path)
    side, crop, exact = _geometry(settings, path)
    size = crop or side
    normalized = settings["do_normalize"]
    mode = "BGR" if settings.get("do_flip_channel_order") else "RGB"
    return ImagePreprocess(
        mode=mode,  # type: ignore[arg-type]
        size=size,
        resize="exact" if exact else "shortest",
        crop_fraction=_fraction(size, side, path),
        interpolation=_interpolation(settings, path),  # type: ignore[arg-type]
        mean=_channels(settings, "image_mean", path) if normalized else (0.0, 0.0, 0.0),
        std=_channels(settings, "image_std", path) if normalized else (1.0, 1.0, 1.0),
    )


def _defaults(config: dict[str, Any], path: Path) -> Mapping[str, Any]:
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    if config.get("auto_map") is not None:
        raise _refused(path, "an auto_map to Python code of its own, which is never run")
    if not isinstance(name, str):
        raise _refused(
            path, "neither image_processor_type nor feature_extractor_type, so what its keys mean is unknown"
        )
    family = name.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if family not in _FAMILIES:
        raise _refused(path, f"the processor {name}, whose steps may differ (known: {', '.join(_FAMILIES)})")
    return _FAMILIES[family]


def _refuse_other_steps(settings: dict[str, Any], path: Path) -> None:
    for key, allowed in _ALLOWED.items():
        if settings.get(key, allowed[0]) not in allowed:
            raise _refused(path, f"{key} = {settings[key]}, a step that does not exist here")
    for key in ("do_resize", "do_rescale"):
        if settings[key] is not True:
            raise _refused(path, f"{key} = {settings[key]}, where images must be resized and scaled to 0…1")
    factor = settings.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise _refused(path, f"rescale_factor = {factor}, where only 1/255 exists here; fold it into mean and std")


def _geometry(settings: dict[str, Any], path: Path) -> tuple[tuple[int, int], tuple[int, int] | None, bool]:
    """What the image is resized to, what is cropped from it, and whether the aspect is ignored."""
    size, exact = _size(settings, path)
    if "crop_pct" in settings:
        side = size[0]
        whole = side >= _WHOLE
        resized = side if whole else int(side / float(settings["crop_pct"]))
        return (resized, resized), (side, side), whole
    if not settings["do_center_crop"]:
        if not exact:
            raise _refused(path, "a shortest edge without a centre crop, which gives every image another size")
        return size, None, True
    crop = _pair(settings.get("crop_size"), "crop_size", path)
    if crop[0] > size[0] or crop[1] > size[1]:
        raise _refused(path, f"a crop of {crop} from {size}, which needs padding")
    return size, crop, exact


def _size(settings: dict[str, Any], path: Path) -> tuple[tuple[int, int], bool]:
    size = settings["size"]
    if isinstance(size, dict) and isinstance(size.get("shortest_edge"), int) and not size.get("longest_edge"):
        return (size["shortest_edge"], size["shortest_edge"]), False
    exact = isinstance(size, dict | list) or settings["square"]
    return _pair(size, "size", path), bool(exact)


def _pair(value: Any, key: str, path: Path) -> tuple[int, int]:
    if isinstance(value, dict) and set(value) >= {"height", "width"}:
        value = [value["height"], value["width"]]
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise _refused(path, f"{key} = {value}, where height and width or a shortest edge in pixels are needed")
    return sides[0], sides[1]


def _fraction(size: tuple[int, int], resized: tuple[int, int], path: Path) -> float:
    """crop_fraction such that floor(size / crop_fraction) is `resized`, which `ImagePreprocess` computes."""
    for fraction in (size[0] / resized[0], math.nextafter(size[0] / resized[0], 0.0)):
        if tuple(math.floor(side / fraction) for side in size) == resized:
            return fraction
    raise _refused(path, f"a crop of {size} from {resized}, which no single fraction describes")


def _interpolation(settings: dict[str, Any], path: Path) -> str:
    value = settings["resample"]
    if value not in _RESAMPLE:
        raise _refused(path, f"resample = {value}, where {', '.join(f'{k} ({v})' for k, v in _RESAMPLE.items())} exist")
    return _RESAMPLE[value]


def _channels(settings: dict[str, Any], key: str, path: Path) -> tuple[float, ...]:
    value = settings.get(key)
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(item, int | float) for item in value):
        raise _refused(path, f"{key} = {value}, where three numbers are needed")
    return tuple(float(item) for item in value)


def _refused(path: Path, found: str) -> InputError:
    return InputError(f"expected preprocessing that can be followed exactly at {path}, found {found}; {GIVE_ONE}")
