"""Models of texts of the zoo: their modules, their parts, and the tokenizers that must fit them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CheckpointError, InputError
from edgevit.sources.checkpoint import fit_state_dict, load_state_dict
from edgevit.sources.digest import module_digest
from edgevit.types import FloatModel, FloatPart
from edgevit.zoo import ClassifierConfig, RecurrentConfig, TaggerConfig, TransformerConfig

if TYPE_CHECKING:
    from edgevit.sources.options import SourceOptions
    from edgevit.types import Signature
    from edgevit.zoo import SequenceConfig, SequenceEntry

FIRST_TOKENS = 16
"""Tokens that an untrained model is let write: it finds no end, and only closeness is measured on them."""


class _Architecture(msgspec.Struct, frozen=True):
    """What a configuration stands for: how to make it, and what goes in and out."""

    empty: Any
    initialize: Any
    signature: Signature
    parts: dict[str, tuple[Signature, int | None]] = {}
    """Part to its signature and the number of attention blocks in it."""
    depth: int | None = None


def load_sequence(entry: SequenceEntry, weights: Path | None, options: SourceOptions) -> FloatModel:
    """The entry's model, float32, in evaluation mode, with the parameters in `weights` or those it was published with.

    Without either it is initialized from seed 0 and marked `trained=False`. Inputs `input_ids` and `attention_mask`
    int64 (batch, source_length), of a model that writes also `decoder_input_ids` int64 (batch, target_length); output
    `logits` float32. Raises CheckpointError for weights or a vocabulary that do not fit, InputError for options of
    images.
    """
    if options.preprocess is not None or options.image_size is not None:
        raise InputError(
            f"expected no image preprocessing and no image size for {entry.name}, which reads texts; leave them out"
        )
    _check_vocabularies(entry)
    found = _architecture(entry.config)
    source = weights or entry.checkpoint
    notes: tuple[str, ...] = ()
    if source is None:
        module = found.initialize(entry.config)
    else:
        module = found.empty(entry.config)
        checkpoint = load_state_dict(source)
        notes = checkpoint.notes
        fit_state_dict(module, checkpoint, source)
    module = module.eval().requires_grad_(False)
    return FloatModel(
        name=entry.name,
        module=module,
        signature=found.signature,
        task=entry.task,
        preprocess=entry.preprocess,
        labels=_labels(entry, options),
        trained=source is not None,
        depth=found.depth,
        calibration=entry.calibration,
        evaluation=entry.evaluation,
        digest=module_digest(module, msgspec.json.encode((entry.config, entry.preprocess, entry.generation))),
        notes=notes,
        parts=tuple(
            FloatPart(name=name, module=part, signature=found.parts[name][0], depth=found.parts[name][1])
            for name, part in (module.parts().items() if found.parts else ())
        ),
        generation=entry.generation,
        files=entry.files,
    )


def _architecture(config: SequenceConfig) -> _Architecture:
    """Torch is imported here and not before."""
    from edgevit.zoo import recurrent, transformer

    if isinstance(config, TransformerConfig):
        return _Architecture(
            transformer.empty_transformer,
            transformer.initialize_transformer,
            transformer.whole_signature(config),
            {
                "encoder": (transformer.encoder_signature(config), config.encoder_layers),
                "decoder": (transformer.decoder_signature(config), 2 * config.decoder_layers),
            },
        )
    if isinstance(config, ClassifierConfig):
        signature = transformer.classifier_signature(config)
        return _Architecture(
            transformer.empty_classifier, transformer.initialize_classifier, signature, depth=config.encoder_layers
        )
    if isinstance(config, RecurrentConfig):
        return _Architecture(
            recurrent.empty_recurrent,
            recurrent.initialize_recurrent,
            recurrent.whole_signature(config),
            {
                "encoder": (recurrent.encoder_signature(config), None),
                "decoder": (recurrent.decoder_signature(config), None),
            },
        )
    assert isinstance(config, TaggerConfig)
    return _Architecture(recurrent.empty_tagger, recurrent.initialize_tagger, recurrent.tagger_signature(config))


def _check_vocabularies(entry: SequenceEntry) -> None:
    """Every id of a tokenizer has a row in the embedding that it is looked up in."""
    from edgevit.preprocess import vocabulary_size  # imports NumPy, which naming a model does not need

    config = entry.config
    if isinstance(config, ClassifierConfig | TaggerConfig):
        source, target = config.vocabulary, 0
    else:
        source, target = config.source_vocabulary, config.target_vocabulary
    sizes = {entry.preprocess.tokenizer: source}
    if entry.generation is not None:
        sizes[entry.generation.tokenizer] = min(target, sizes.get(entry.generation.tokenizer, target))
    for name, rows in sizes.items():
        found = vocabulary_size(entry.files[name])
        if found > rows:
            raise CheckpointError(
                f"expected a vocabulary of at most {rows} tokens for {entry.name}, found {found} in "
                f"{entry.files[name]}; use the tokenizer that the model was trained with"
            )


def _labels(entry: SequenceEntry, options: SourceOptions) -> tuple[str, ...]:
    if options.labels and len(options.labels) != len(entry.labels):
        raise InputError(
            f"expected {len(entry.labels)} labels, one per class of the model, found {len(options.labels)}; correct "
            "the list of labels"
        )
    return options.labels or entry.labels
