"""Named samples, images or texts, and the sets they form. Opening a set decodes no image but a sheet."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import msgspec

from edgevit.errors import PreprocessError
from edgevit.preprocess import load_image
from edgevit.sets.reading import read_all

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgevit.types import FloatArray


Kind = Literal["image", "text", "tensor"]


class Source(Protocol):
    """Where a sample's image or text comes from. `read` may be called from several threads; raises PreprocessError.

    What is no image has a `kind`; what is read in the set's order, by one thread, a true `in_order`; what knows its
    `digest` has that.
    """

    def read(self) -> Any: ...


class FileSource(msgspec.Struct, frozen=True):
    """An image file."""

    path: Path

    kind: ClassVar[Kind] = "image"

    def read(self) -> Image:
        return load_image(self.path)


class ItemSource(msgspec.Struct, frozen=True, eq=False):
    """An image as the user's code gave it: a path, a PIL image, bytes of a file, or an array."""

    item: Any

    kind: ClassVar[Kind] = "image"

    def read(self) -> Image:
        return load_image(self.item)


class TextSource(msgspec.Struct, frozen=True):
    """A text that was read with its file."""

    text: str

    kind: ClassVar[Kind] = "text"

    def read(self) -> str:
        return self.text


class TensorSource(msgspec.Struct, frozen=True, eq=False):
    """A row that is the model's input already: float32 (channels, height, width)."""

    row: FloatArray

    kind: ClassVar[Kind] = "tensor"

    def read(self) -> FloatArray:
        return self.row

    @property
    def digest(self) -> str:
        """SHA-256 over shape and numbers."""
        header = f"tensor {self.row.shape}\n".encode()
        return hashlib.sha256(header + self.row.tobytes()).hexdigest()


class BrokenText(msgspec.Struct, frozen=True):
    """A line of a file of texts that holds none."""

    reason: str

    kind: ClassVar[Kind] = "text"

    def read(self) -> str:
        raise PreprocessError(self.reason)


class Sample(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One image or text with its name, unique in the set, and the truth about it, if any: one of the three."""

    name: str
    source: Source
    label: str | None = None
    tags: tuple[str, ...] | None = None
    """One for each word of a text; a word is what white space separates."""
    target: str | None = None
    """The text's translation."""
    stratum: str = ""
    """What a share of the set is stratified by where there is no label."""

    @property
    def kind(self) -> Kind:
        kind: Kind = getattr(self.source, "kind", "image")
        return kind

    def text(self) -> str:
        """The text, as it stands in its file. Raises PreprocessError for a line that holds none."""
        read: str = self.source.read()
        return read

    def image(self) -> Image:
        """The upright image, mode `L` or `RGB` (`preprocess.load_image`). Raises PreprocessError, naming the file."""
        image: Image = self.source.read()
        return image

    @cached_property
    def digest(self) -> str:
        """SHA-256 over width, height and RGB pixels of the decoded image, over the text, or over the prepared numbers.

        Content, not file: the same picture as PNG, as BMP, with other metadata or on a sheet has one digest, and so has
        the same text as JSON, in a table or on a line.
        """
        if self.kind == "text":
            return hashlib.sha256(b"text\n" + self.text().strip().encode()).hexdigest()
        known: str = getattr(self.source, "digest", "")
        if known:
            return known
        image = self.image()
        header = f"{image.width}x{image.height}\n".encode()
        return hashlib.sha256(header + image.convert("RGB").tobytes()).hexdigest()


class SampleSet(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Samples in a fixed order, all of one kind. Either every sample has its truth or none has.

    A label, and every tag, is one of `labels`.
    """

    name: str
    samples: tuple[Sample, ...]
    labels: tuple[str, ...] = ()
    """The class names, or those of the tags; empty for translations and for an unlabelled set."""
    skipped: tuple[str, ...] = ()
    """Names of the files or lines left out because they could not be read (`skip_corrupt`)."""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kind(self) -> Kind:
        return self.samples[0].kind if self.samples else "image"

    @property
    def labelled(self) -> bool:
        """Whether the samples' truth is known, of whichever form."""
        return bool(self.labels) or any(sample.target is not None for sample in self.samples)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over name, truth and content of every sample, in order.

        Reads every image and text once. Raises SetError, with their number and the first one's name, for those that
        cannot be read.
        """
        digests = read_all(self.name, self.samples, lambda sample: sample.digest)
        rows = [[sample.name, *_truth(sample), digest] for sample, digest in zip(self.samples, digests, strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _truth(sample: Sample) -> tuple[object, ...]:
    return (sample.label,) if sample.kind != "text" else (sample.label, sample.tags, sample.target)
