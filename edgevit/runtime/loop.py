"""A decoder called once a token: what it gave at one step is what it reads at the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.runtime.parts import LOGITS, TOKENS, feedback

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from edgevit.runtime.parts import PartsSession
    from edgevit.targets.base import EngineSession, Loop
    from edgevit.types import Arrays, FloatArray


class ArrayLoop:
    """A `Loop` over any session: arrays go back in as they came out."""

    def __init__(self, session: EngineSession, fed: dict[str, str], inputs: Arrays) -> None:
        self._session = session
        self._fed = tuple(fed.items())
        self._carried = frozenset(fed.values())
        self._inputs = dict(inputs)
        """All that the next step reads."""

    def step(self, inputs: Arrays) -> Arrays:
        self._inputs.update(inputs)
        outputs = self._session.run(self._inputs)
        for output, name in self._fed:
            self._inputs[name] = outputs.pop(output)
        return outputs

    def select(self, rows: NDArray[np.int64], *, constant: bool) -> None:
        for name, array in self._inputs.items():
            if constant or name in self._carried:
                self._inputs[name] = array[rows]

    def close(self) -> None:
        self._inputs = {}


class Decoding:
    """The decoder over a batch of sources, token by token; one caller's, to be closed.

    A row is one sequence being written; at the start there is one for each source, in their order.
    """

    def __init__(self, session: PartsSession, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> None:
        inputs = session.encode(input_ids, attention_mask)
        fed = feedback(session.decoder.signature)
        own = getattr(session.decoder, "loop", None)  # an engine that can feed outputs back without a copy has one
        self._loop: Loop = ArrayLoop(session.decoder, fed, inputs) if own is None else own(fed, inputs)
        self._sources = np.arange(len(input_ids))

    def step(self, tokens: NDArray[np.int64]) -> FloatArray:
        """The newest token of each row, int64 (rows,) -> logits of the next, float32 (rows, vocabulary).

        The logits are the engine's own memory: good until the next step.
        """
        logits: FloatArray = self._loop.step({TOKENS: tokens[:, None]})[LOGITS]
        return logits[:, -1]

    def select(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows, in this order; a row may be left out or stand more than once."""
        if len(rows) == len(self._sources) and (rows == np.arange(len(rows))).all():
            return
        sources = self._sources[rows]
        self._loop.select(rows, constant=not np.array_equal(sources, self._sources))
        self._sources = sources

    def close(self) -> None:
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
