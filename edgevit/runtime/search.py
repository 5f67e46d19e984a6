"""Which tokens a decoder writes: the likeliest one at each step, or the best of several sequences.

Both see the decoder as `Steps`. A source's result does not depend on the others of its batch: rows are scored each by
itself, and those that have ended are taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgevit.types import FloatArray, Generation


_LANES = 64
_UNSHIFTED = 60.0
"""Up to it the exponentials of a million logits have a sum in float32, and down to it none that counts is lost."""


class Steps(Protocol):
    """A decoder over rows of sequences (`runtime.loop.Decoding`)."""

    def step(self, tokens: NDArray[np.int64]) -> FloatArray: ...

    def select(self, rows: NDArray[np.int64]) -> None: ...


class Generated(NamedTuple):
    """One finished sequence: the ids without the start token, with the end token if it was reached."""

    ids: tuple[int, ...]
    log_probability: float
    """Of the whole sequence, natural logarithm."""

    def score(self, settings: Generation) -> float:
        """Sum of log-probabilities / length ** length_penalty, the end token counted (Hugging Face's)."""
        return float(self.log_probability / len(self.ids) ** settings.length_penalty)


class Written(NamedTuple):
    """What one greedy step added: arrays of one length, a row for each source that had not ended before."""

    sources: NDArray[np.int64]
    tokens: NDArray[np.int64]
    log_probabilities: FloatArray


def generate(steps: Steps, sources: int, settings: Generation) -> list[Generated]:
    """The sequence of each of `sources` sources, by greedy search for one beam, by beam search for more."""
    if settings.beams > 1:
        return beam_search(steps, sources, settings)
    ids: list[list[int]] = [[] for _ in range(sources)]
    sums = [0.0] * sources
    for written in greedy(steps, sources, settings):
        for source, token, value in zip(*(column.tolist() for column in written), strict=True):
            ids[source].append(token)
            sums[source] += value
    return [Generated(tuple(row), value) for row, value in zip(ids, sums, strict=True)]


def greedy(steps: Steps, sources: int, settings: Generation) -> Iterator[Written]:
    """The likeliest token at each step, the lowest id among equals, until every source has ended."""
    alive = np.arange(sources)
    tokens = np.full(sources, settings.start_token_id, dtype=np.int64)
    scratch: FloatArray | None = None
    for length in range(1, settings.max_length + 1):
        logits = steps.step(tokens)
        tokens = logits.argmax(axis=1)
        if scratch is None or scratch.shape != logits.shape:
            scratch = np.empty(logits.shape, logits.dtype)
        highest = logits.max(axis=1) if len(tokens) > 1 else logits[:, tokens[0]]  # one row needs no second pass
        yield Written(alive, tokens, highest - log_sum_exp(logits, highest, scratch))
        if length == settings.max_length:
            return
        if settings.end_token_id in tokens.tolist():
            going = np.flatnonzero(tokens != settings.end_token_id)
            if len(going) == 0:
                return
            steps.select(going)
            alive, tokens = alive[going], tokens[going]


def beam_search(steps: Steps, sources: int, settings: Generation) -> list[Generated]:
    """The best of the sequences that `beams` beams find for each source; the algorithm is Hugging Face's.

    Of the 2 * beams best continuations of a source, those that end and are among the first `beams` are kept, and the
    first `beams` of the others go on.
    """
    beams = [_Source(settings) for _ in range(sources)]
    going = list(range(sources))
    tokens = np.full(sources, settings.start_token_id, dtype=np.int64)
    for _ in range(settings.max_length):
        logits = steps.step(tokens)
        values, choices = best_continuations(logits, 2 * settings.beams)
        parents: list[int] = []
        first = 0
        for source in going:
            rows = slice(first, first + len(beams[source].running))
            parents += [first + parent for parent in beams[source].extend(values[rows], choices[rows])]
            first = rows.stop
        going = [source for source in going if beams[source].running]
        if not going:
            break
        steps.select(np.array(parents, dtype=np.int64))
        tokens = np.array([row.ids[-1] for source in going for row in beams[source].running], dtype=np.int64)
    return [source.best() for source in beams]


class _Source:
    """The beams of one source: the sequences that go on, best first, and the best that have ended."""

    def __init__(self, settings: Generation) -> None:
        self._settings = settings
        self.running = [Generated((), 0.0)]
        """Empty when this source is done."""
        self._ended: list[Generated] = []

    def extend(self, values: FloatArray, choices: NDArray[np.int64]) -> list[int]:
        """Adds a token: (running, k) log-probabilities and ids of each one's k best. Returns the places of the parents.

        Among equal sums the earlier row wins, then the lower id.
        """
        settings = self._settings
        sums = np.array([row.log_probability for row in self.running])[:, None] + values
        order = np.lexsort((choices.ravel(), np.arange(sums.size) // sums.shape[1], -sums.ravel()))
        parents: list[int] = []
        running: list[Generated] = []
        for rank, place in enumerate(order[: 2 * settings.beams].tolist()):
            parent, column = divmod(place, sums.shape[1])
            token = int(choices[parent, column])
            row = Generated((*self.running[parent].ids, token), float(sums[parent, column]))
            if token != settings.end_token_id:
                running.append(row)
                parents.append(parent)
            elif rank < settings.beams:
                self._ended.append(row)
        self.running = running[: settings.beams]
        self._ended = sorted(self._ended, key=self._worth, reverse=True)[: settings.beams]
        if self._done():
            self.running = []
        return parents[: len(self.running)]

    def best(self) -> Generated:
        """Of all that have ended; what was still going when the length was used up competes as it is."""
        return max((*self._ended, *self.running), key=self._worth)

    def _done(self) -> bool:
        if len(self._ended) < self._settings.beams or not self.running:
            return False
        return self._settings.early_stopping or self._worth(self._ended[-1]) >= self._worth(self.running[0])

    def _worth(self, row: Generated) -> float:
        return row.score(self._settings)


def log_sum_exp(logits: FloatArray, highest: FloatArray | None = None, scratch: FloatArray | None = None) -> FloatArray:
    """ln Σ exp of each row: (rows, vocabulary) -> (rows,).

    `highest` of each row, where it is known, and memory of the logits' shape to compute in. They are shifted only where
    float32 overflows or vanishes otherwise: each pass over 37,000 logits costs a loop 10 µs of a step that takes 1,600.
    """
    highest = logits.max(axis=1) if highest is None else highest
    largest = highest.tolist()
    result: FloatArray
    if max(largest) < _UNSHIFTED and min(largest) > -_UNSHIFTED:
        result = np.log(np.einsum("ij->i", np.exp(logits, out=scratch)))
        return result
    shifted = np.subtract(logits, highest[:, None], out=scratch)
    result = np.log(np.exp(shifted, out=shifted).sum(axis=1)) + highest
    return result


def best_continuations(logits: FloatArray, count: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Log-probabilities and ids of the `count` likeliest tokens of each row: two arrays (rows, count), unordered."""
    choices = largest(logits, count)
    return np.take_along_axis(logits, choices, axis=1) - log_sum_exp(logits)[:, None], choices


def largest(values: FloatArray, count: int) -> NDArray[np.int64]:
    """The places of the `count` largest of each row, unordered: (rows, n) -> (rows, count), fewer where n is smaller.

    They lie in the `count` columns of largest maximum when a row is written as `_LANES` lines, so that one pass of
    maxima and two small partitions do; for four rows of 37,000 logits a beam's step takes 0.36 ms instead of 0.61.
    """
    rows, size = values.shape
    if size <= count:
        return np.broadcast_to(np.arange(size), values.shape)
    width = size // _LANES
    if width <= count:
        return np.argpartition(values, size - count, axis=1)[:, -count:]
    maxima = values[:, : _LANES * width].reshape(rows, _LANES, width).max(axis=1)
    columns = np.argpartition(maxima, width - count, axis=1)[:, -count:]
    inside = (columns[:, None, :] + width * np.arange(_LANES)[None, :, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(_LANES * width, size), (rows, size - _LANES * width))
    places = np.concatenate([inside, rest], axis=1)
    best = np.argpartition(np.take_along_axis(values, places, axis=1), places.shape[1] - count, axis=1)[:, -count:]
    return np.take_along_axis(places, best, axis=1)
