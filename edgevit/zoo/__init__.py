"""Reference architectures and the sizes and checkpoints published with edgevit. Importing this needs no torch."""

from __future__ import annotations

from edgevit.zoo.cards import ModelCard, SequenceCard, read_card, read_sequence_card
from edgevit.zoo.catalog import (
    SequenceEntry,
    ZooEntry,
    find_entry,
    find_sequence,
    sequence_names,
    vit_config,
    zoo_names,
)
from edgevit.zoo.config import DistilledViTConfig, ViTConfig
from edgevit.zoo.sequence_config import (
    ClassifierConfig,
    RecurrentConfig,
    SequenceConfig,
    TaggerConfig,
    TransformerConfig,
)

__all__ = [
    "ClassifierConfig",
    "DistilledViTConfig",
    "ModelCard",
    "RecurrentConfig",
    "SequenceCard",
    "SequenceConfig",
    "SequenceEntry",
    "TaggerConfig",
    "TransformerConfig",
    "ViTConfig",
    "ZooEntry",
    "find_entry",
    "find_sequence",
    "read_card",
    "read_sequence_card",
    "sequence_names",
    "vit_config",
    "zoo_names",
]
