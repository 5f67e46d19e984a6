"""The names of the zoo and what each stands for. Importing this needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from edgevit.errors import InputError
from edgevit.types import Generation, ImagePreprocess, Task, TextPreprocess
from edgevit.zoo.cards import read_card, read_sequence_card
from edgevit.zoo.config import ViTConfig
from edgevit.zoo.sequence_config import SequenceConfig, TransformerConfig

_SIZES = {
    "tiny": (192, 12, 3, 16),
    "small": (384, 12, 6, 16),
    "base": (768, 12, 12, 16),
    "large": (1024, 24, 16, 16),
    "huge": (1280, 32, 16, 14),
}
"""dim, depth, heads, patch size: Table 1 of arXiv:2010.11929 for base, large and huge, DeiT (arXiv:2012.12877) for tiny
and small."""

_RESOLUTIONS = {224: 0.9, 384: 1.0}
"""Pixels to crop fraction, as timm's `vit_*_patch16_*` and `vit_huge_patch14_*` have them."""

DIGITS = "digits-vit"
PHRASES = (
    "phrases-transformer",
    "phrases-lstm",
    "phrases-gru",
    "tags-rnn",
    "tags-lstm",
    "tags-gru",
    "kinds-transformer",
)
"""Trained on the German and English phrases of `edgevit/sets/phrases`."""
TRANSFORMER_BASE = "transformer-base"

CHECKPOINTS = Path(__file__).parent / "checkpoints"
VOCABULARIES = CHECKPOINTS / "phrases"
"""The word pieces that all models of phrases share: `source.json` and `target.json`."""
CARD_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
SOURCE_TOKENIZER = "tokenizer.json"
TARGET_TOKENIZER = "target-tokenizer.json"


class ZooEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model of images of the zoo: everything about it but its parameters."""

    name: str
    config: ViTConfig
    preprocess: ImagePreprocess
    labels: tuple[str, ...]
    checkpoint: Path | None = None
    """The published weights; None for sizes that exist untrained, for speed and scale only."""
    calibration: str | None = None
    evaluation: str | None = None


class SequenceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model of texts of the zoo: everything about it but its parameters."""

    name: str
    task: Task
    config: SequenceConfig
    preprocess: TextPreprocess
    files: dict[str, Path]
    """What must travel with the model, by its name in a bundle: tokenizers."""
    generation: Generation | None = None
    """For models that write."""
    labels: tuple[str, ...] = ()
    checkpoint: Path | None = None
    """The published weights; None for sizes that exist untrained, for speed and scale only."""
    calibration: str | None = None
    evaluation: str | None = None


def zoo_names() -> tuple[str, ...]:
    """Every name that `find_entry` and `find_sequence` know: images, then texts, of each the trained ones first."""
    whole = ((size, pixels) for pixels in _RESOLUTIONS for size in _SIZES if pixels % _SIZES[size][-1] == 0)
    return (DIGITS, *(f"vit-{size}-{pixels}" for size, pixels in whole), *sequence_names())


def sequence_names() -> tuple[str, ...]:
    """Every name that `find_sequence` knows, the untrained one last."""
    return (*(name for name in PHRASES if (CHECKPOINTS / name / CARD_FILE).exists()), TRANSFORMER_BASE)


def find_entry(name: str) -> ZooEntry:
    """The model of images of that name. Raises InputError with the choices for any other."""
    if name == DIGITS:
        return _published(name)
    family, _, pixels = name.rpartition("-")
    size = family.removeprefix("vit-")
    if name not in zoo_names() or name in sequence_names():
        raise InputError(f"expected a model of the zoo, found '{name}'; choose one of: {', '.join(zoo_names())}")
    return _untrained(name, size, int(pixels))


def find_sequence(name: str) -> SequenceEntry:
    """The model of texts of that name. Raises InputError with the choices for any other."""
    if name not in sequence_names():
        raise InputError(
            f"expected a model of texts of the zoo, found '{name}'; choose one of: {', '.join(sequence_names())}"
        )
    return _transformer_base() if name == TRANSFORMER_BASE else _published_sequence(name)


def vit_config(size: str, pixels: int, classes: int = 1000) -> ViTConfig:
    """The configuration of a ViT for square images; `size` is tiny, small, base, large or huge."""
    dim, depth, heads, patch = _SIZES[size]
    return ViTConfig(image_size=(pixels, pixels), patch_size=patch, dim=dim, depth=depth, heads=heads, classes=classes)


def phrases_text(max_length: int) -> TextPreprocess:
    """How German phrases become tokens."""
    digest = hashlib.sha256((VOCABULARIES / "source.json").read_bytes()).hexdigest()
    return TextPreprocess(tokenizer=SOURCE_TOKENIZER, tokenizer_sha256=digest, max_length=max_length, pad_token_id=0)


def phrases_generation(max_length: int) -> Generation:
    """How English phrases are written, greedily."""
    return Generation(
        start_token_id=2, end_token_id=3, pad_token_id=0, max_length=max_length, tokenizer=TARGET_TOKENIZER
    )


def _vocabularies(task: Task) -> dict[str, Path]:
    source = {SOURCE_TOKENIZER: VOCABULARIES / "source.json"}
    return {**source, TARGET_TOKENIZER: VOCABULARIES / "target.json"} if task == "translation" else source


def _untrained(name: str, size: str, pixels: int) -> ZooEntry:
    preprocess = ImagePreprocess(
        size=(pixels, pixels), crop_fraction=_RESOLUTIONS[pixels], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    config = vit_config(size, pixels)
    return ZooEntry(name=name, config=config, preprocess=preprocess, labels=tuple(map(str, range(config.classes))))


def _transformer_base() -> SequenceEntry:
    """The paper's size and vocabulary; it reads and writes with the phrases' pieces, which are the first of it."""
    return SequenceEntry(
        name=TRANSFORMER_BASE,
        task="translation",
        config=TransformerConfig(source_vocabulary=37_000, target_vocabulary=37_000),
        preprocess=phrases_text(512),
        generation=phrases_generation(512),
        files=_vocabularies("translation"),
    )


def _published(name: str) -> ZooEntry:
    folder = CHECKPOINTS / name
    card = read_card(folder / CARD_FILE)
    return ZooEntry(
        name=name,
        config=card.architecture,
        preprocess=card.preprocess,
        labels=card.labels,
        checkpoint=folder / WEIGHTS_FILE,
        calibration=card.calibration,
        evaluation=card.evaluation,
    )


def _published_sequence(name: str) -> SequenceEntry:
    folder = CHECKPOINTS / name
    card = read_sequence_card(folder / CARD_FILE)
    return SequenceEntry(
        name=name,
        task=card.task,
        config=card.architecture,
        preprocess=card.preprocess,
        files=_vocabularies(card.task),
        generation=card.generation,
        labels=card.labels,
        checkpoint=folder / WEIGHTS_FILE,
        calibration=card.calibration,
        evaluation=card.evaluation,
    )
