"""What lies in a Hugging Face directory, looked at before anything is loaded: nothing in it may run or lead outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgevit.errors import CheckpointError
from edgevit.sources.formats import checkpoint_format

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers looks for them."""
CODE_KEYS = ("auto_map", "custom_pipelines")


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that passed the checks."""

    path: Path
    config: dict[str, Any]
    files: tuple[str, ...]
    """Its weights, one file or the shards."""
    kind: Literal["safetensors", "torch"]
    dtypes: tuple[str, ...]
    """What the weights are stored in, as safetensors names it; empty where only loading them would tell."""


def look_into(path: Path) -> Directory:
    """Checks a directory's configuration and the presence and kind of its weights; loads neither.

    Raises CheckpointError for no or a broken config.json, remote code, quantized weights, and weights that are
    missing, truncated, foreign or outside the directory.
    """
    config = read_config(path / CONFIG)
    if (path / "adapter_config.json").exists():
        raise CheckpointError(
            f"expected a whole model in {path}, found an adapter (adapter_config.json); merge it into its base model "
            "(merge_and_unload in peft) and save that"
        )
    name = next((name for name in WEIGHTS if (path / name).exists()), None)
    if name is None:
        raise CheckpointError(
            f"expected weights in {path}, found none of {', '.join(WEIGHTS)}; copy the checkpoint's files there"
        )
    files = _shards(path / name) if name.endswith(".json") else (name,)
    kinds = {checkpoint_format(path / file) for file in files}
    if kinds not in ({"safetensors"}, {"torch"}):
        raise CheckpointError(
            f"expected weights of one format in {path}, found {', '.join(sorted(kinds))}; copy them there again"
        )
    safe = kinds == {"safetensors"}
    dtypes = {dtype for file in files for dtype in _stored_types(path / file)} if safe else set()
    return Directory(
        path=path,
        config=config,
        files=files,
        kind="safetensors" if safe else "torch",
        dtypes=tuple(sorted(dtypes)),
    )


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.json that names an architecture, and no code of its own."""
    where = f"at {path}"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"expected a Hugging Face directory with a {CONFIG}, found none {where}; "
            "copy the whole directory, or name the architecture (timm:ARCH) and give the file with --weights"
        ) from error
    except OSError as error:
        raise CheckpointError(f"expected a readable {CONFIG} {where}, found: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"expected JSON {where}, found: {error}; copy the file again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"expected one JSON object {where}, found {type(config).__name__}; copy the file again")
    for key in CODE_KEYS:
        if _mentions(config, key):
            raise CheckpointError(
                f"expected a model of transformers' own, found '{key}' {where}, which names Python code that came with "
                "the checkpoint; such code is never run: convert it to an architecture of transformers, or write a "
                "factory (package.module:factory) from code you trust"
            )
    if "transformers_weights" in config:
        raise CheckpointError(
            f"expected the weights under their usual names ({', '.join(WEIGHTS)}), found 'transformers_weights' "
            f"{where}; rename the file and take the key out"
        )
    if _mentions(config, "quantization_config"):
        raise CheckpointError(
            f"expected float weights, found a quantization_config {where}; hand in the checkpoint before quantization"
        )
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"expected a model_type {where}, found none; copy the file again")
    return config


def _mentions(config: object, key: str) -> bool:
    if isinstance(config, dict):
        return bool(config.get(key)) or any(_mentions(value, key) for value in config.values())
    return isinstance(config, list) and any(_mentions(value, key) for value in config)


def _shards(index: Path) -> tuple[str, ...]:
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        files = tuple(sorted({str(file) for file in places.values()}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"expected an index with a 'weight_map' of parameter names to files at {index}, found none; copy it again"
        ) from error
    for file in files:
        if file in ("", ".", "..") or "/" in file or "\\" in file:
            raise CheckpointError(
                f"expected shards beside {index}, found '{file}', which leads outside its directory; it was not read"
            )
        if not (index.parent / file).exists():
            raise CheckpointError(
                f"expected {len(files)} shards beside {index}, found no {file}; copy or download it again"
            )
    if not files:
        raise CheckpointError(f"expected shards in the index {index}, found none; copy it again")
    return files


def _stored_types(path: Path) -> set[str]:
    """The types in a safetensors file's header, whose length the format check has found to fit."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
            return {str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"expected the header of a safetensors file at {path}, found damage; copy or download it again"
            ) from error
