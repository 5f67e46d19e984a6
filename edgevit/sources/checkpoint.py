"""Checkpoint files to state dicts, and state dicts into modules. Nothing in a checkpoint is ever executed."""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - only the error; torch.load below is restricted
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CheckpointError
from edgevit.sources.formats import checkpoint_format, damaged, foreign
from edgevit.sources.requirements import require

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state", "model_state_dict")
"""Keys under which training scripts put the parameters, the averaged ones first, as timm prefers them."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before every parameter's name."""

NAMED = 5
"""How many parameters an error names before it only counts."""

_UNREADABLE = (
    RuntimeError, EOFError, struct.error, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    OverflowError, MemoryError,
)  # fmt: skip
"""What torch's restricted unpickler raises on damaged files besides UnpicklingError, found by mutating files."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters by name, and what had to be done to the file to get them."""

    state: dict[str, Any]
    """Name to `torch.Tensor`: floating-point ones are float32, integers as they were."""
    notes: tuple[str, ...] = ()


def load_state_dict(path: Path) -> Checkpoint:
    """The parameters in a checkpoint file: safetensors (also sharded) or a state dict written by torch.save.

    Known wrappers and prefixes are taken off, half precision becomes float32; the notes say so. Raises
    CheckpointError for a file that is missing, truncated, foreign or would run code, UnavailableError without torch.
    """
    require("torch", "reading a checkpoint")
    kind = checkpoint_format(path)
    if kind == "index":
        found: object = _read_shards(path)
    elif kind == "safetensors":
        found = _read_safetensors(path)
    else:
        found = _read_torch(path)
    state, unwrapped = _unwrap(found, path)
    state, stripped = _strip_prefixes(state)
    others = {str(value.dtype)[6:] for value in state.values() if value.is_floating_point()} - {"float32"}
    turned = [f"turned {', '.join(sorted(others))} parameters to float32"] if others else []
    state = {name: _to_float32(name, value, path) for name, value in state.items()}
    return Checkpoint(state=state, notes=(*unwrapped, *stripped, *turned))


def fit_state_dict(module: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Puts the checkpoint's parameters into the module, which may be on the meta device; all of them or none.

    Raises CheckpointError that names the parameters which are missing, unexpected, of another shape or type (the
    first five of each, and the count), or hold NaN or infinity.
    """
    import torch

    wanted, found = module.state_dict(), checkpoint.state
    unlike = [
        f"{name}: expected {_shape(wanted[name])}, found {_shape(found[name])}"
        for name in wanted
        if name in found and _shape(wanted[name]) != _shape(found[name])
    ]
    parts = [
        _listing("missing", [name for name in wanted if name not in found]),
        _listing("unexpected", [name for name in found if name not in wanted]),
        _listing("of another shape", unlike),
    ]
    if any(parts):
        found_instead = ", ".join(filter(None, parts))
        raise CheckpointError(
            f"expected the {len(wanted)} parameters of {type(module).__name__}, found {found_instead}, "
            f"at {path}; hand in the weights of this architecture, or name the architecture they belong to"
        )
    bad = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"expected finite weights, found NaN or infinity in {_listing('parameters', bad)}, at {path}; "
            "the training that wrote it diverged or the file is damaged: hand in another checkpoint"
        )
    module.load_state_dict(found, strict=True, assign=True)


def _shape(value: Tensor) -> str:
    kind = "" if value.is_floating_point() else f" {str(value.dtype)[6:]}"
    return f"({', '.join(map(str, value.shape))}){kind}"


def _listing(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    require("safetensors", "reading a .safetensors checkpoint")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged(path, str(error)) from error


def _read_shards(path: Path) -> dict[str, Tensor]:
    """The files that an index names, which must lie beside it."""
    try:
        shards = json.loads(path.read_bytes())["weight_map"]
        places = {str(name): str(shard) for name, shard in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise foreign(path, "an index without a 'weight_map' of parameter names to files") from error
    state: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard or "\\" in shard:
            raise foreign(path, f"an index that names a file outside its directory ('{shard}')")
        part = path.parent / shard
        if checkpoint_format(part) != "safetensors":
            raise foreign(part, "a shard that is not safetensors")
        state.update(_read_safetensors(part))
    absent = [name for name in places if name not in state]
    if absent:
        raise damaged(path, f"{_listing('parameters that its files do not hold', absent)}")
    return state


def _read_torch(path: Path) -> object:
    """The object in a torch.save file, by torch's restricted unpickler, which builds tensors and plain containers."""
    import torch

    # Original DeiT and timm training checkpoints carry their arguments; a Namespace only holds attributes.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        if culprit is None:
            raise damaged(path, "its pickle cannot be read") from error
        raise CheckpointError(
            f"expected a state dict of tensors, found a pickle that calls {culprit[1]} at {path}; it was refused and "
            "not run: where you trust it, load it yourself and save its state dict as safetensors"
        ) from error
    except _UNREADABLE as error:
        raise damaged(path, (str(error) or type(error).__name__).splitlines()[0]) from error


def _unwrap(found: object, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    import torch

    notes: list[str] = []
    while isinstance(found, Mapping) and found:
        if all(isinstance(value, torch.Tensor) for value in found.values()):
            return {str(name): value for name, value in found.items()}, notes
        wrapper = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping) and found[key]), None)
        if wrapper is None:
            break
        others = sorted(str(key) for key in found if key != wrapper)
        notes.append(
            f"took the parameters under '{wrapper}'" + (f", left {', '.join(others[:NAMED])}" if others else "")
        )
        found = found[wrapper]
    if isinstance(found, Mapping):
        keys = _listing("entries", [str(key) for key in found]) or "nothing"
        raise foreign(path, f"a dictionary with {keys} and no state dict under any of {', '.join(WRAPPERS)}")
    raise foreign(path, f"one object of type {type(found).__name__}")


def _strip_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    notes: list[str] = []
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        notes.append(f"took the prefix '{prefix}' off every parameter's name")
    return state, notes


def _to_float32(name: str, value: Tensor, path: Path) -> Tensor:
    import torch

    if value.is_quantized or value.layout != torch.strided or value.is_complex():
        kind = f"{value.dtype} {value.layout}".replace("torch.", "")
        raise foreign(path, f"a parameter '{name}' of the kind {kind}, where dense real tensors are needed")
    return (value.float() if value.is_floating_point() else value).contiguous()
