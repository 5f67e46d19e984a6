"""Reference architectures and the sizes and checkpoints published with edgevit. Importing this needs no torch."""

from __future__ import annotations

from edgevit.zoo.catalog import ZooEntry, find_entry, vit_config, zoo_names
from edgevit.zoo.config import ViTConfig

__all__ = ["ViTConfig", "ZooEntry", "find_entry", "vit_config", "zoo_names"]
