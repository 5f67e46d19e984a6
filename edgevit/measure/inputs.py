"""Inputs made from a signature alone, for timing: right shapes, right dtypes, always the same for a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError
from edgevit.types import PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.types import Arrays, Signature, TensorSpec


def input_shape(spec: TensorSpec, batch_size: int, dimensions: dict[str, int]) -> tuple[int, ...]:
    """The concrete shape of one input. A dynamic first dimension is the batch unless `dimensions` names it.

    Raises InputError when the batch is fixed to another size, or another dynamic dimension has no size.
    """
    shape = []
    for axis, size in enumerate(spec.shape):
        if isinstance(size, str):
            known = dimensions.get(size, batch_size if axis == 0 else None)
            if known is None:
                raise InputError(
                    f"expected a size for the dynamic dimension '{size}', found none, at axis {axis} of input "
                    f"'{spec.name}'; pass dimensions={{'{size}': N}}"
                )
            shape.append(known)
        elif axis == 0 and size != batch_size:
            raise InputError(
                f"expected batch size {size}, found {batch_size}: input '{spec.name}' was built with a fixed batch; "
                f"measure batch size {size} or export with a dynamic batch"
            )
        else:
            shape.append(size)
    return tuple(shape)


def random_inputs(
    signature: Signature,
    batch_size: int,
    seed: int,
    dimensions: dict[str, int],
    vocabulary: dict[str, int] | None = None,
) -> Arrays:
    """Standard normal floats; ones for masks; bytes for pixels; ids below the `vocabulary` of their input, or else 0
    or 1.

    Every vocabulary has the ids 0 and 1.
    """
    known = vocabulary or {}
    generator = np.random.default_rng(seed)
    inputs: dict[str, NDArray[Any]] = {}
    for spec in signature.inputs:
        shape, dtype = input_shape(spec, batch_size, dimensions), np.dtype(spec.dtype)
        if dtype.kind == "f":
            inputs[spec.name] = generator.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)
        elif spec.name == PIXELS:
            inputs[spec.name] = generator.integers(0, 256, size=shape, dtype=np.uint8)
        elif _is_mask(spec):
            inputs[spec.name] = np.ones(shape, dtype=dtype)
        else:
            inputs[spec.name] = generator.integers(0, known.get(spec.name, 2), size=shape).astype(dtype)
    return inputs


def zero_inputs(signature: Signature, batch_size: int, dimensions: dict[str, int]) -> Arrays:
    """Zeros, but ones for masks: a text without any token is none."""
    return {
        spec.name: np.full(input_shape(spec, batch_size, dimensions), _is_mask(spec), dtype=spec.dtype)
        for spec in signature.inputs
    }


def _is_mask(spec: TensorSpec) -> bool:
    return spec.name.endswith("mask") and np.dtype(spec.dtype).kind in "iub"
