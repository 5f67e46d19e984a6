"""What counts as the same answer, and as a right one, for each task.

A metric here turns outputs into one comparable answer per sample, and everything after that (agreement, flips, paired
tests) is the same for all tasks: class indices here, whole texts under exact match in `sequences`. A corpus score that
is no average over samples (BLEU) has no place in this protocol; `corpus` resamples it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from edgevit.errors import SetError
from edgevit.types import Task, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.parity.metrics import BoolArray

Labels: TypeAlias = "Sequence[int | None] | NDArray[np.integer[Any]] | Sequence[str | None]"
"""Class index per sample, tag index per token, or the text of a translation; None for every sample of an unlabelled
set."""


def known_labels(labels: Labels | None) -> Labels | None:
    """The labels of one batch, or None for an unlabelled one; SetError where only some samples have one."""
    if labels is None or isinstance(labels, np.ndarray):
        return labels
    missing = sum(label is None for label in labels)
    if missing == 0:
        return labels
    if missing == len(labels):
        return None
    raise SetError(f"expected labels for all samples or for none, found {missing} of {len(labels)} without one")


class TaskMetric(Protocol):
    """From a batch of outputs to answers that can be compared with `==`."""

    @property
    def name(self) -> str:
        """As it is printed, for example `top-1 accuracy`."""

    def answers(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """One answer per sample, shape (batch,); outputs are finite."""

    def truths(self, labels: Labels, outputs: NDArray[Any]) -> NDArray[Any]:
        """The set's labels as answers, shape (batch,); SetError for labels that cannot be the model's."""

    def describe(self, answer: Any) -> str:
        """The answer for people."""


class Top1(Value, frozen=True, kw_only=True):
    """Classification of images, texts or words of a text: the class with the largest score, the first of equals."""

    classes: tuple[str, ...] = ()
    """Names by class index; a class without one is shown as its index."""
    name: str = "top-1 accuracy"

    def answers(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.argmax(outputs, axis=-1))

    def truths(self, labels: Labels, outputs: NDArray[Any]) -> NDArray[Any]:
        truths = np.asarray(labels)
        batch, classes = outputs.shape
        if truths.shape != (batch,) or not np.issubdtype(truths.dtype, np.integer):
            raise SetError(f"expected {batch} class indices as labels, found {truths.dtype} of shape {truths.shape}")
        wrong = (truths < 0) | (truths >= classes)
        if wrong.any():
            raise SetError(f"expected labels in [0, {classes}), the model's classes, found {truths[wrong][0]}")
        return truths

    def describe(self, answer: Any) -> str:
        index = int(answer)
        return self.classes[index] if index < len(self.classes) else str(index)


METRICS: dict[Task, str] = {
    "image-classification": "top-1 accuracy",
    "text-classification": "top-1 accuracy",
    "token-classification": "token accuracy",
}


def task_metric(task: Task, classes: Sequence[str] = ()) -> TaskMetric | None:
    """The metric of a task; None for features of images and texts, whose outputs are no answers to be right or wrong.

    Also for `translation` and `summarization`, whose answers are not in the outputs: `parity.sequences` has a loop to
    run.
    """
    name = METRICS.get(task)
    return None if name is None else Top1(classes=tuple(classes), name=name)


class Tally(Value, frozen=True, kw_only=True):
    """Counts of answers over all batches so far; tallies of parts add up to the tally of the whole."""

    samples: int = 0
    agreed: int = 0
    """Both give the same answer."""
    reference_right: int = 0
    build_right: int = 0
    lost: int = 0
    """Reference right, build wrong."""
    gained: int = 0
    """Reference wrong, build right."""
    changed: int = 0
    """Both wrong, with different answers."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


def tally(reference: NDArray[Any], build: NDArray[Any], truths: NDArray[Any] | None, finite: BoolArray) -> Tally:
    """Counts one batch of answers, shape (batch,) each; a build's answer that is not `finite` is always wrong."""
    agree = (reference == build) & finite
    if truths is None:
        return Tally(samples=len(reference), agreed=int(agree.sum()))
    right, build_right = reference == truths, (build == truths) & finite
    return Tally(
        samples=len(reference),
        agreed=int(agree.sum()),
        reference_right=int(right.sum()),
        build_right=int(build_right.sum()),
        lost=int((right & ~build_right).sum()),
        gained=int((~right & build_right).sum()),
        changed=int((~right & ~build_right & ~agree).sum()),
    )
