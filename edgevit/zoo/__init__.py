"""Reference architectures and the sizes and checkpoints published with edgevit. Importing this needs no torch."""

from __future__ import annotations

from edgevit.zoo.catalog import ModelCard, ZooEntry, find_entry, read_card, vit_config, zoo_names
from edgevit.zoo.config import ViTConfig

__all__ = ["ModelCard", "ViTConfig", "ZooEntry", "find_entry", "read_card", "vit_config", "zoo_names"]
