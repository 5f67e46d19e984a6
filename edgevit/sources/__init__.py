"""Where a float model comes from."""

from __future__ import annotations

from edgevit.sources.zoo import load_zoo

__all__ = ["load_zoo"]
