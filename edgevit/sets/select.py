"""Choosing from sets and comparing them: a stratified share, what decodes, labels, coverage, disjointness."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import msgspec

from edgevit.errors import SetError
from edgevit.sets.reading import read_all, readable
from edgevit.sets.sample import Sample, SampleSet

_RENAME = {
    "image": "rename the class folders or the label column, or give --label-map FILE",
    "text": "rename them in the set, or give --label-map FILE",
    "tensor": "rename them in the file, or give --label-map FILE",
}
_READ = {"image": "decoded", "text": "read", "tensor": "read"}
_LONGEST = 60
_NAMED = 3  # how many offenders an error names before it only counts them


def take(samples: SampleSet, count: int, seed: int) -> SampleSet:
    """`count` samples, in the set's order; for a labelled set in proportion to its labels.

    Each label gets the whole part of its exact quota, and the largest remainders get one more (Hamilton's method).
    Which samples of a label, and which of equal remainders, is decided by SHA-256 of seed and name: the choice does
    not depend on a library's random generator, on the set's order, or on whether other samples come or go.
    Raises SetError for a count below 1 or above the size of the set.
    """
    if not 1 <= count <= len(samples):
        raise SetError(
            f"set {samples.name!r}: count: expected 1 to {len(samples)} (the size of the set), found {count}"
        )
    groups: dict[str, list[Sample]] = {}
    for sample in samples.samples:
        groups.setdefault(sample.label or sample.stratum, []).append(sample)
    parts = quotas({label: len(group) for label, group in groups.items()}, count, seed)
    chosen = {
        sample.name
        for label, group in groups.items()
        for sample in sorted(group, key=lambda sample: rank(seed, sample.name))[: parts[label]]
    }
    kept = tuple(sample for sample in samples.samples if sample.name in chosen)
    return msgspec.structs.replace(samples, samples=kept)


def quotas(sizes: dict[str, int], count: int, seed: int) -> dict[str, int]:
    """How many of each label: `count` split in proportion to `sizes`, in whole numbers."""
    total = sum(sizes.values())
    parts = {label: count * size // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(count * sizes[label] % total), rank(seed, label)))
    for label in by_remainder[: count - sum(parts.values())]:
        parts[label] += 1
    return parts


def rank(seed: int, name: str) -> bytes:
    """Where a name stands in the order that a seed gives."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def skip_corrupt(samples: SampleSet) -> SampleSet:
    """The set without the images and texts that cannot be read; `skipped` names them. Reads every one once.

    Raises SetError when none can be read.
    """
    good = readable(samples.samples)
    if not any(good):
        raise SetError(
            f"set {samples.name!r}: none of its {len(samples)} {samples.kind}s can be {_READ[samples.kind]}, "
            f"first {samples.samples[0].name!r}; check that these files are {samples.kind}s"
        )
    kept = tuple(sample for sample, decodes in zip(samples.samples, good, strict=True) if decodes)
    left_out = tuple(sample.name for sample, decodes in zip(samples.samples, good, strict=True) if not decodes)
    return msgspec.structs.replace(samples, samples=kept, skipped=(*samples.skipped, *left_out))


def require_labels(samples: SampleSet, purpose: str) -> None:
    """Raises SetError when the set has no labels; `purpose` says what needs them ("accuracy")."""
    if not samples.labelled:
        advice = {
            "image": "put the images into one folder per class, or add labels.csv with the columns filename,label",
            "text": "add the column label, tags or target",
            "tensor": "add an array 'labels', one per row",
        }[samples.kind]
        raise SetError(
            f"set {samples.name!r}: {purpose} needs labels, and its {len(samples)} {samples.kind}s have none; {advice}"
        )


def label_indices(samples: SampleSet, model_labels: Sequence[str]) -> tuple[int | None, ...]:
    """For each sample the index of its label among the model's labels, by name; None for an unlabelled set.

    Raises SetError, naming them, for labels that the model does not have or has more than once.
    """
    places = label_places(samples, model_labels)
    return tuple(None if sample.label is None else places[sample.label] for sample in samples.samples)


def label_places(samples: SampleSet, model_labels: Sequence[str]) -> dict[str, int]:
    """Label, or tag, to its place among the model's labels, for those that the set has.

    Raises SetError, naming them, for labels that the model does not have or has more than once.
    """
    places: dict[str, list[int]] = {}
    for place, label in enumerate(model_labels):
        places.setdefault(label, []).append(place)
    unknown = [label for label in samples.labels if label not in places]
    if unknown:
        raise SetError(
            f"set {samples.name!r}: the model has no label {_few(unknown)}; expected labels among its "
            f"{len(model_labels)}: {_few(list(model_labels))}; {_RENAME[samples.kind]}"
        )
    ambiguous = [label for label in samples.labels if len(places[label]) > 1]
    if ambiguous:
        raise SetError(
            f"set {samples.name!r}: the model has the label {_few(ambiguous)} more than once, so it names no single "
            "output; make the model's labels unique"
        )
    return {label: places[label][0] for label in samples.labels}


def coverage(samples: SampleSet) -> dict[str, int]:
    """Samples per label, in the order of `labels`, with 0 for a label that has none; empty for an unlabelled set."""
    counts = Counter(sample.label for sample in samples.samples)
    counts.update(tag for sample in samples.samples for tag in set(sample.tags or ()))
    return {label: counts[label] for label in samples.labels}


def check_disjoint(calibration: SampleSet, evaluation: SampleSet) -> None:
    """Raises SetError, with the count and the first pairs, when a calibration sample is in the evaluation set too.

    Images are compared by the digest of their decoded pixels and texts by theirs, so another file name or format hides
    nothing. Reads both sets once. What was only scaled, compressed anew or spelled otherwise is not found.
    """
    evaluated = {digest: sample.name for digest, sample in zip(_digests(evaluation), evaluation.samples, strict=True)}
    shared = [
        (sample.name, evaluated[digest])
        for digest, sample in zip(_digests(calibration), calibration.samples, strict=True)
        if digest in evaluated
    ]
    if shared:
        pairs = ", ".join(f"{_cut(one)!r} = {_cut(other)!r}" for one, other in shared[:_NAMED])
        raise SetError(
            f"{len(shared)} of {len(calibration)} {calibration.kind}s of the calibration set {calibration.name!r} are "
            f"also in the evaluation set {evaluation.name!r}: {pairs}{', …' if len(shared) > _NAMED else ''}; "
            "expected none in both, so remove them from one of the two"
        )


def _digests(samples: SampleSet) -> list[str]:
    return read_all(samples.name, samples.samples, lambda sample: sample.digest)


def _cut(name: str) -> str:
    """A text is the name of its sample."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def _few(words: list[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(repr(word) for word in words[:_NAMED]) + more
