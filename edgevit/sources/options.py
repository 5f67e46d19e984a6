"""What a source may be told beyond its name and weights."""

from __future__ import annotations

import msgspec

from edgevit.types import ImagePreprocess, Task


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything is optional; a factory needs `preprocess`, because nothing else knows its input."""

    task: Task | None = None
    """None: what the source itself says."""
    preprocess: ImagePreprocess | None = None
    """In place of the family's own."""
    labels: tuple[str, ...] = ()
    """One per class, in the order of the outputs; empty: the class numbers, or what the zoo has."""
    image_size: tuple[int, int] | None = None
    """(height, width), pixels; positions are interpolated to it once, and frozen. None: the architecture's own."""
