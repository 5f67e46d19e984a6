"""What the library sentence-transformers keeps beside a model: how tokens become one vector (`modules.json`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CheckpointError, InputError
from edgevit.files import check_relative, inside

if TYPE_CHECKING:
    from pathlib import Path

MODULES = "modules.json"
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of a pooling's config.json before version 6, in the order in which several are put side by side."""
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "identity",
}
"""Of a dense layer's config.json: Python names, which are compared and never imported."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Dense(msgspec.Struct, frozen=True, kw_only=True):
    """A linear layer behind the pooling."""

    weights: Path
    bias: bool = True
    activation: str = "tanh"


class Sentences(msgspec.Struct, frozen=True, kw_only=True):
    """From tokens to the vector of a text, in this order: pooling, dense layers, length one."""

    transformer: str = ""
    """The sub-directory of the transformer; empty for the directory itself."""
    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[Dense, ...] = ()
    normalize: bool = False
    max_length: int | None = None


def read_sentences(directory: Path) -> Sentences | None:
    """What modules.json says, or None without one. Raises CheckpointError for a broken one, or one that leads outside;
    InputError for a step that does not exist here."""
    path = directory / MODULES
    if not path.exists():
        return None
    found = Sentences()
    for place, (kind, folder) in enumerate(_modules(path)):
        if (kind == "Transformer") != (place == 0):
            raise _refused(path, f"{kind} at place {place}")
        if kind == "Transformer":
            found = _with_transformer(found, directory, folder)
        elif kind == "Pooling":
            found = msgspec.structs.replace(found, pooling=_pooling(directory / folder / "config.json"))
        elif kind == "Dense" and not found.normalize:
            found = msgspec.structs.replace(found, dense=(*found.dense, _dense(directory / folder)))
        elif kind == "Normalize":
            found = msgspec.structs.replace(found, normalize=True)
        else:
            raise _refused(path, kind)
    _refuse_prompts(directory / "config_sentence_transformers.json")
    return found


def _modules(path: Path) -> list[tuple[str, str]]:
    """Kind (the class's last name) and sub-directory of every module, in order."""
    try:
        entries = json.loads(path.read_bytes())
        modules = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"expected a list of modules with type and path at {path}, found none: {error}; copy it again"
        ) from error
    if not modules:
        raise CheckpointError(f"expected modules at {path}, found an empty list; copy it again")
    for _, folder in modules:
        if folder:
            check_relative(folder, path, CheckpointError)
            inside(path.parent, folder, CheckpointError)
    return modules


def _with_transformer(found: Sentences, directory: Path, folder: str) -> Sentences:
    path = directory / folder / "sentence_bert_config.json"
    settings = _read(path) if path.exists() else {}
    if settings.get("do_lower_case"):
        raise InputError(
            f"expected texts that the tokenizer takes as they are, found do_lower_case at {path}; add a Lowercase "
            "normalizer to tokenizer.json and take the key out"
        )
    longest = settings.get("max_seq_length")
    return msgspec.structs.replace(
        found, transformer=folder, max_length=longest if isinstance(longest, int) and longest > 0 else None
    )


def _pooling(path: Path) -> tuple[str, ...]:
    settings = _read(path)
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in POOLINGS.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not set(modes) <= set(POOLINGS.values()):
        raise InputError(f"expected pooling of {', '.join(POOLINGS.values())} at {path}, found {modes}")
    return tuple(modes)


def _dense(folder: Path) -> Dense:
    settings = _read(folder / "config.json")
    activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation not in ACTIVATIONS:
        raise _refused(folder / "config.json", f"the activation {activation}")
    name = next((name for name in WEIGHTS if (folder / name).exists()), None)
    if name is None:
        raise CheckpointError(f"expected {' or '.join(WEIGHTS)} in {folder}, found neither; copy the whole checkpoint")
    return Dense(weights=folder / name, bias=bool(settings.get("bias", True)), activation=ACTIVATIONS[activation])


def _refuse_prompts(path: Path) -> None:
    """A prompt is put before every text: nothing in a bundle says that yet, so it must not be lost silently."""
    settings = _read(path) if path.exists() else {}
    name = settings.get("default_prompt_name")
    if name is not None:
        raise InputError(
            f"expected texts as they are, found the default prompt {name!r} at {path}; set default_prompt_name to null "
            "and put the prompt before the texts yourself"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"expected settings at {path}, which cannot be read ({error.strerror}); copy the whole checkpoint"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"expected JSON at {path}, found: {error}; copy the file again") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"expected one JSON object at {path}, found {type(settings).__name__}; copy it again")
    return settings


def _refused(path: Path, found: str) -> InputError:
    return InputError(
        f"expected a Transformer, then Pooling, Dense and Normalize, at {path}, found {found}; this step does not "
        "exist here: write a factory (package.module:factory)"
    )
