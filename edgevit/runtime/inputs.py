"""Checks what `run` is given against the signature, in microseconds: no engine's cryptic error is ever seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.types import Arrays, Signature, TensorSpec


class InputCheck:
    """A callable that raises InputError unless the inputs are the signature's."""

    def __init__(self, signature: Signature) -> None:
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in signature.inputs}

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


def _wrong_shape(spec: TensorSpec, found: tuple[int, ...]) -> InputError:
    expected = ", ".join(str(dim) for dim in spec.shape)
    return InputError(f"expected {spec.name} of shape ({expected}) with no empty dimension, found {found}")
