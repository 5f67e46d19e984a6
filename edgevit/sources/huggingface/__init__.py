"""A directory in Hugging Face layout: config.json, weights, and what prepares its inputs. Nothing is fetched or run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError
from edgevit.sources.huggingface.directory import look_into
from edgevit.sources.huggingface.images import load_images
from edgevit.sources.huggingface.sentences import read_sentences
from edgevit.sources.huggingface.texts import load_texts
from edgevit.sources.huggingface.writers import load_writers
from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require

if TYPE_CHECKING:
    from edgevit.types import FloatModel, Task

__all__ = ["infer_task", "load_huggingface"]

ARCHITECTURES: dict[str, Task] = {
    "ForImageClassification": "image-classification",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
"""What an architecture's name says it is for."""
OF_IMAGES = ("image_size", "patch_size", "vision_config", "num_channels")
"""Keys of a configuration that reads pixels; one with `vocab_size` and none of them reads texts."""
TEXTS = ("text-classification", "token-classification", "text-features")
WRITING = ("translation", "summarization")
SUMMARIZERS = {"bart", "pegasus", "pegasus_x", "bigbird_pegasus", "led"}
"""Encoder-decoders that are published for summaries; of the others nothing says what they write."""


def load_huggingface(directory: Path, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The model in a directory that `save_pretrained` wrote, as float32, in evaluation mode.

    The task is read off the architecture unless `options.task` gives it. Of images see `load_images`, of texts
    `load_texts` and `load_writers`. Raises CheckpointError for what is missing, damaged, unsafe or does not fit,
    InputError for a task or preprocessing that cannot be told, UnavailableError without torch and transformers.
    """
    require("torch", f"loading {directory}")
    require("transformers", f"loading {directory}, a Hugging Face directory,", "huggingface")
    options = options or SourceOptions()
    if weights is not None:
        raise InputError(f"expected the weights inside {directory}, found --weights {weights} as well; leave one out")
    sentences = read_sentences(directory)
    found = look_into(directory / sentences.transformer if sentences else directory)
    task = options.task or ("text-features" if sentences else infer_task(found.config, str(found.path)))
    if task in TEXTS:
        return load_texts(found, task, options, sentences)
    if task in WRITING:
        return load_writers(found, task, options)
    return load_images(found, task, options)


def infer_task(config: dict[str, Any], where: str) -> Task:
    """The task of the first architecture that a config.json names. Raises InputError where it has none here."""
    names = config.get("architectures") or []
    name = str(names[0]) if names else ""
    for ending, task in ARCHITECTURES.items():
        if ending in name:
            return task
    reads_texts = "vocab_size" in config and not any(key in config for key in OF_IMAGES)
    if reads_texts and name.endswith(("ForConditionalGeneration", "MTModel")):
        return "summarization" if config.get("model_type") in SUMMARIZERS else "translation"
    if name and "For" not in name:
        return "text-features" if reads_texts else "image-features"
    known = ", ".join((*ARCHITECTURES.values(), "image-features", "text-features", *WRITING))
    raise InputError(
        f"expected an architecture for one of {known} in config.json at {where}, found {name or 'none'}; give --task, "
        "if the checkpoint can do it"
    )
