"""Named samples and the sets they form. Opening a set decodes nothing but a sheet; an image is read when asked for."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from edgevit.preprocess import load_image
from edgevit.sets.reading import read_all

if TYPE_CHECKING:
    from PIL.Image import Image


class Source(Protocol):
    """Where a sample's image comes from. `read` may be called from several threads; it raises PreprocessError."""

    def read(self) -> Image: ...


class FileSource(msgspec.Struct, frozen=True):
    """An image file."""

    path: Path

    def read(self) -> Image:
        return load_image(self.path)


class Sample(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One image with its name, unique in the set, and its label."""

    name: str
    source: Source
    label: str | None = None

    def image(self) -> Image:
        """The upright image, mode `L` or `RGB` (`preprocess.load_image`). Raises PreprocessError, naming the file."""
        return self.source.read()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over width, height and RGB pixels of the decoded image.

        Content, not file: the same picture as PNG, as BMP, with other metadata or on a sheet has one digest.
        """
        image = self.image()
        header = f"{image.width}x{image.height}\n".encode()
        return hashlib.sha256(header + image.convert("RGB").tobytes()).hexdigest()


class SampleSet(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Samples in a fixed order. Either every sample has a label, one of `labels`, or none has."""

    name: str
    samples: tuple[Sample, ...]
    labels: tuple[str, ...] = ()
    """The class names; empty for an unlabelled set."""
    skipped: tuple[str, ...] = ()
    """Names of the files left out because they could not be decoded (`skip_corrupt`)."""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labelled(self) -> bool:
        return bool(self.labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over name, label and content of every sample, in order.

        Decodes every image once. Raises SetError, with their number and the first one's name, for images that
        cannot be decoded.
        """
        digests = read_all(self.name, self.samples, lambda sample: sample.digest)
        rows = [[sample.name, sample.label, digest] for sample, digest in zip(self.samples, digests, strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
