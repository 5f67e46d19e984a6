"""Reading many samples: in order, on a few threads, with bounded memory, and with one line for all that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from edgevit.errors import PreprocessError, SetError
from edgevit.threads import ordered_map

if TYPE_CHECKING:
    from edgevit.sets.sample import Sample

Result = TypeVar("Result")

WORKERS = 2
"""Decoding threads: Pillow decodes without the interpreter lock, and two keep ahead of one model."""


def read_each(
    set_name: str, samples: Sequence[Sample], function: Callable[[Sample], Result], workers: int, ahead: int
) -> Iterator[Result]:
    """`function` of each sample, in order; raises SetError at the first that cannot be read, and counts the others.

    Counting reads the rest of the set, so the one error tells how much there is to repair.
    """
    if any(getattr(sample.source, "in_order", False) for sample in samples):
        workers = 0
    results = ordered_map(lambda sample: _attempt(function, sample), samples, workers, ahead)
    for place, result in enumerate(results):
        if isinstance(result, PreprocessError):
            failed = 1 + sum(isinstance(later, PreprocessError) for later in results)
            raise SetError(
                f"set {set_name!r}: {failed} of {len(samples)} {samples[place].kind}s cannot be read; first "
                f"{samples[place].name!r}: {result}; repair or remove them, or set skip_corrupt = true in the set's "
                "manifest"
            ) from result
        yield result


def read_all(set_name: str, samples: Sequence[Sample], function: Callable[[Sample], Result]) -> list[Result]:
    """`read_each` as a list, for small results."""
    return list(read_each(set_name, samples, function, WORKERS, 4 * WORKERS))


def readable(samples: Sequence[Sample]) -> list[bool]:
    """For each sample, whether it can be read. The digests that this takes are kept by the samples."""
    results = ordered_map(lambda sample: _attempt(lambda it: it.digest, sample), samples, WORKERS, 4 * WORKERS)
    return [not isinstance(result, PreprocessError) for result in results]


def _attempt(function: Callable[[Sample], Result], sample: Sample) -> Result | PreprocessError:
    try:
        return function(sample)
    except PreprocessError as error:
        return error
