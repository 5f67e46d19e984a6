"""What people keep beside a model file: preprocessing and labels, which the file itself cannot tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import InputError
from edgevit.sources.preprocessing import FILE, GIVE_ONE, read_preprocess
from edgevit.sources.vit import choose_labels

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.sources.options import SourceOptions
    from edgevit.types import ImagePreprocess, Task, TensorSpec


def preprocess_beside(path: Path, inputs: list[TensorSpec], options: SourceOptions) -> ImagePreprocess:
    """The given preprocessing, or that of a preprocessor_config.json beside `path`; it must fit the one image input.

    A height or width that the input leaves open becomes the preprocessing's, in place in `inputs`.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype != "float32":
        found = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in inputs) or "none"
        raise InputError(f"expected one float32 input (batch, channels, height, width) in {path}, found {found}")
    preprocess = options.preprocess
    if preprocess is None:
        beside = path.parent / FILE
        if not beside.exists():
            raise InputError(f"expected preprocessing for {path}, found no {FILE} beside it; {GIVE_ONE}")
        preprocess = read_preprocess(beside)
    if options.image_size is not None:
        preprocess = msgspec.structs.replace(preprocess, size=options.image_size)
    made = (len(preprocess.mode), *preprocess.size)
    wanted = inputs[0].shape[1:]
    if any(isinstance(side, int) and side != ours for side, ours in zip(wanted, made, strict=True)):
        raise InputError(
            f"expected preprocessing to {' x '.join(map(str, wanted))} (channels, height, width) for {path}, found "
            f"{' x '.join(map(str, made))}; change its size or mode"
        )
    if any(isinstance(side, str) for side in wanted):
        inputs[0] = msgspec.structs.replace(inputs[0], shape=(inputs[0].shape[0], *made))
    return msgspec.structs.replace(preprocess, input=inputs[0].name)


def labels_beside(path: Path, task: Task, outputs: list[TensorSpec], options: SourceOptions) -> tuple[str, ...]:
    """The given labels, or those of a config.json beside `path`, or the class numbers."""
    if task != "image-classification":
        return ()
    classes = outputs[0].shape[-1]
    if len(outputs[0].shape) != 2 or not isinstance(classes, int):
        raise InputError(
            f"expected class scores (batch, classes) as the first output of {path}, found {outputs[0].shape}; "
            "give --task image-features"
        )
    if options.labels:
        return choose_labels(options.labels, classes, given=True)
    names = _id2label(path.parent / "config.json")
    if {str(key) for key in names} == set(map(str, range(classes))):
        return tuple(str(names[str(index)]) for index in range(classes))
    return choose_labels((), classes, given=False)


def _id2label(path: Path) -> dict[str, Any]:
    """The label map of a config.json beside the file; empty without one."""
    if not path.exists():
        return {}
    try:
        names = json.loads(path.read_bytes()).get("id2label")
    except (ValueError, AttributeError) as error:
        raise InputError(f"expected one JSON object at {path}, found: {error}; correct or remove it") from error
    return names if isinstance(names, dict) else {}
