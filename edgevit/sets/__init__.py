"""Calibration and evaluation sets: images and texts on disk to named samples."""

from edgevit.sets.batches import Batch, batches, unpadded_batches
from edgevit.sets.opening import SetManifest, open_set
from edgevit.sets.sample import Sample, SampleSet
from edgevit.sets.select import (
    check_disjoint,
    coverage,
    label_indices,
    label_places,
    require_labels,
    skip_corrupt,
    take,
)
from edgevit.sets.sheet import SheetManifest

__all__ = [
    "Batch",
    "Sample",
    "SampleSet",
    "SetManifest",
    "SheetManifest",
    "batches",
    "check_disjoint",
    "coverage",
    "label_indices",
    "label_places",
    "open_set",
    "require_labels",
    "skip_corrupt",
    "take",
    "unpadded_batches",
]
