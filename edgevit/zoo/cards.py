"""What is published beside trained weights, `config.json` in a checkpoint's directory. Importing needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from edgevit.errors import CheckpointError
from edgevit.types import Generation, ImagePreprocess, Task, TextPreprocess, Value
from edgevit.zoo.config import ViTConfig
from edgevit.zoo.sequence_config import SequenceConfig


class ModelCard(Value, frozen=True, kw_only=True):
    """The card of a model of images."""

    architecture: ViTConfig
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    calibration: str
    """The set that the model was trained on, and that calibration draws from."""
    evaluation: str
    """The held-out set, in no way used for training or for choosing settings."""
    accuracy: float
    """Top-1 on the whole evaluation set in float32, percent."""
    samples: int
    """Images in the evaluation set."""
    split: str
    """The rule that parts the two sets."""
    script: str
    """What trained it, from the top of the repository."""
    training: dict[str, float | int | str]
    """The script's settings."""


class LengthScore(Value, frozen=True, kw_only=True):
    """Of the evaluation texts in one range of lengths, how many the model gets wholly right."""

    tokens: int
    """The longest, in tokens of the source; the range begins after the one before."""
    samples: int
    score: float
    """Percent."""


class SequenceCard(Value, frozen=True, kw_only=True):
    """The card of a model of texts."""

    architecture: SequenceConfig
    task: Task
    preprocess: TextPreprocess
    generation: Generation | None = None
    """For models that write."""
    labels: tuple[str, ...] = ()
    """Classes or tags, in the order of the outputs."""
    calibration: str
    """A set that the model was not trained on; settings may be chosen with it."""
    evaluation: str
    """The held-out set, in no way used for training or for choosing settings."""
    scores: dict[str, float]
    """On the whole evaluation set, float32: `exact match` and `accuracy` in percent, sacrebleu's `BLEU` and `chrF`."""
    by_length: tuple[LengthScore, ...]
    samples: int
    """Texts in the evaluation set."""
    split: str
    """The rule that parts the sets."""
    script: str
    """What trained it, from the top of the repository."""
    training: dict[str, bool | float | int | str]
    """The script's settings."""


Card = TypeVar("Card", ModelCard, SequenceCard)


def read_card(path: Path) -> ModelCard:
    """The card of a model of images at `path`. Raises CheckpointError when it is missing or not one."""
    return _read(path, ModelCard)


def read_sequence_card(path: Path) -> SequenceCard:
    """The card of a model of texts at `path`. Raises CheckpointError when it is missing or not one."""
    return _read(path, SequenceCard)


def _read(path: Path, kind: type[Card]) -> Card:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"expected the published checkpoint's card, found '{error}' at {path}; install edgevit again"
        ) from error
