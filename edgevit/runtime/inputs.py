"""Checks what `run` is given against the signature, in microseconds: no engine's cryptic error is ever seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError
from edgevit.types import PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.types import Arrays, Signature, TensorSpec, TextPreprocess


class InputCheck:
    """A callable that raises InputError unless the inputs are the signature's."""

    def __init__(self, signature: Signature, names: tuple[str, ...] = ()) -> None:
        """`names`: of these inputs alone; of all where there are none."""
        self._specs = {spec.name: spec for spec in signature.inputs if not names or spec.name in names}
        self._dtypes = {name: np.dtype(spec.dtype) for name, spec in self._specs.items()}

    @property
    def fixed_batch(self) -> int | None:
        """The batch of a build that was traced with a fixed one."""
        first = next(iter(self._specs.values())).shape[0]
        return first if isinstance(first, int) else None

    def __call__(self, inputs: Arrays) -> None:
        if not isinstance(inputs, dict) or inputs.keys() != self._specs.keys():
            given = sorted(map(str, inputs)) if isinstance(inputs, dict) else type(inputs).__name__
            raise InputError(f"expected a dict of the inputs {sorted(self._specs)}, found {given}")
        named: dict[str, int] = {}
        for name, spec in self._specs.items():
            array = inputs[name]
            if not isinstance(array, np.ndarray) or array.dtype != self._dtypes[name]:
                found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise InputError(f"expected {name} as a NumPy array of {spec.dtype}, found {found}")
            if len(array.shape) != len(spec.shape):
                raise _wrong_shape(spec, array.shape)
            for size, wanted in zip(array.shape, spec.shape, strict=True):
                if isinstance(wanted, str):
                    wanted = named.setdefault(wanted, size)
                if size != wanted or size == 0:
                    raise _wrong_shape(spec, array.shape)


class TextCheck:
    """A callable that raises InputError for arrays of the right shape that no text makes.

    An engine reads past the end of a table for an id or a position that the model does not have: OpenVINO 2026.4.1 was
    seen to end the process.
    """

    def __init__(self, spec: TextPreprocess, vocabulary: int, target: tuple[int, int] | None = None) -> None:
        """`vocabulary`: tokens of the source; `target`: those of the target, and how many may be written."""
        self._spec = spec
        self._vocabulary = vocabulary
        self._target = target

    def __call__(self, inputs: Arrays) -> None:
        spec = self._spec
        _check_ids(spec.input, inputs[spec.input], self._vocabulary, spec.max_length)
        mask = inputs.get(spec.mask)
        if mask is not None and not (((mask == 0) | (mask == 1)).all() and (np.diff(mask, axis=1) <= 0).all()):
            raise InputError(f"expected {spec.mask} with ones for tokens, then zeros for padding, found {_row(mask)}")
        if mask is not None and not mask[:, 0].all():
            raise InputError(f"expected {spec.mask} with at least one token in every row, found a row of padding")
        if self._target is not None and TARGET in inputs:
            _check_ids(TARGET, inputs[TARGET], *self._target)


TARGET = "decoder_input_ids"


def _check_ids(name: str, ids: NDArray[Any], vocabulary: int, longest: int) -> None:
    low, high = ids.min(), ids.max()
    if low < 0 or high >= vocabulary:
        raise InputError(f"expected {name} from 0 to {vocabulary - 1}, found {low if low < 0 else high}")
    if ids.shape[1] > longest:
        raise InputError(f"expected {name} of at most {longest} tokens, found {ids.shape[1]}; shorten the text")


def _row(mask: NDArray[Any]) -> list[int]:
    """The first row of a mask that is wrong, cut to what a line holds."""
    wrong = next(row for row in mask if not np.isin(row, (0, 1)).all() or (np.diff(row) > 0).any())
    return [*map(int, wrong[:16])]


def _wrong_shape(spec: TensorSpec, found: tuple[int, ...]) -> InputError:
    expected = ", ".join(str(dim) for dim in spec.shape)
    channels_first = spec.name == PIXELS and len(found) == 4 and found[1] == 3
    more = ", which has the channels first; hand over frames as the camera gives them" if channels_first else ""
    return InputError(f"expected {spec.name} of shape ({expected}) with no empty dimension, found {found}{more}")
