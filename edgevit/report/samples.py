"""The samples that the builds get most wrong, each once, with what every build says about it."""

from __future__ import annotations

from base64 import b64encode

import msgspec

from edgevit.errors import InputError
from edgevit.report import formats
from edgevit.report.data import ReportData
from edgevit.types import WorstSample

_PNG = b"\x89PNG\r\n\x1a\n"
_SMALL = 128
"""Pixels. A picture narrower than this is enlarged in squares, so that every pixel of a 48-pixel digit is seen."""


class Opinion(msgspec.Struct, frozen=True):
    """What one build says about a sample."""

    build: str
    label: str
    score: str
    differs: bool
    """The build's label is not the reference's."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    """As the comparison names it; pictures are looked up by it."""
    name: str
    reference: str
    truth: str
    opinions: tuple[Opinion, ...]


class Picture(msgspec.Struct, frozen=True):
    address: str
    """A `data:` address."""
    width: int
    height: int
    small: bool


def worst_samples(data: ReportData, limit: int = 24, longest: int = 60) -> tuple[Sample, ...]:
    """The samples with the highest divergence over all rungs, with the opinion of each rung that lists them.

    Those come first on which a build disagrees with the reference. Labels and texts are cut to `longest` characters.
    """
    if data.parity is None:
        return ()
    found = [(sample, rung) for rung in data.parity.rungs for sample in rung.worst]
    names = dict.fromkeys(sample.name for sample, _ in sorted(found, key=lambda pair: _severity(pair[0])))
    samples = []
    for name in list(names)[:limit]:
        mine = [(sample, rung) for sample, rung in found if sample.name == name]
        first = mine[0][0]
        opinions = tuple(
            Opinion(
                formats.clean(rung.name, 60),
                formats.clean(sample.build, longest),
                formats.small(sample.score),
                sample.build != sample.reference,
            )
            for sample, rung in mine
        )
        samples.append(
            Sample(
                key=name,
                name=formats.clean(name, longest),
                reference=formats.clean(first.reference, longest),
                truth=formats.clean(first.truth, longest),
                opinions=opinions,
            )
        )
    return tuple(samples)


def _severity(sample: WorstSample) -> tuple[bool, float]:
    return sample.build == sample.reference, -sample.score


def score_name(data: ReportData) -> str:
    """What the scores of the samples are."""
    rungs = data.parity.rungs if data.parity else ()
    classes = any(rung.closeness and rung.closeness.kl_mean is not None for rung in rungs)
    return "KL divergence from the reference, nats" if classes else "cosine distance from the reference"


def picture(name: str, png: bytes) -> Picture:
    """A PNG as an address that needs no file. Raises InputError when the bytes are no PNG."""
    if not png.startswith(_PNG) or len(png) < 24:
        raise InputError(f"expected PNG bytes for the picture of sample {name!r}, found {png[:8]!r}; encode it as PNG")
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return Picture(f"data:image/png;base64,{b64encode(png).decode('ascii')}", width, height, width < _SMALL)
