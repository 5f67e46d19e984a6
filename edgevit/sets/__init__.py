"""Calibration and evaluation sets: images and texts on disk to named samples."""

from edgevit.sets.batches import Batch, batches, raw_batches, unpadded_batches
from edgevit.sets.iterable import as_set
from edgevit.sets.label_map import read_label_map, with_label_map
from edgevit.sets.opening import SetManifest, open_set
from edgevit.sets.reservoir import Wanted
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
    "Wanted",
    "as_set",
    "batches",
    "check_disjoint",
    "coverage",
    "label_indices",
    "label_places",
    "open_set",
    "raw_batches",
    "read_label_map",
    "require_labels",
    "skip_corrupt",
    "take",
    "unpadded_batches",
    "with_label_map",
]
