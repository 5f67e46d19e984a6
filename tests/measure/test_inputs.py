from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.measure.inputs import input_shape, random_inputs, zero_inputs
from edgevit.types import Signature, TensorSpec


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs=inputs, outputs=())


PIXELS = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8))
TOKENS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))


def test_inputs_have_the_signatures_shapes_and_dtypes() -> None:
    half = TensorSpec(name="half", dtype="float16", shape=(2, 5))
    mask = TensorSpec(name="mask", dtype="bool", shape=("batch", 4))
    inputs = random_inputs(signature(PIXELS, TOKENS, half, mask), 2, seed=0, dimensions={"sequence": 7})
    assert {name: (array.shape, str(array.dtype)) for name, array in inputs.items()} == {
        "pixel_values": ((2, 3, 8, 8), "float32"),
        "input_ids": ((2, 7), "int64"),
        "half": ((2, 5), "float16"),
        "mask": ((2, 4), "bool"),
    }
    assert set(np.unique(inputs["input_ids"])) <= {0, 1}
    assert inputs["pixel_values"].std() > 0.5


def test_inputs_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    first, again, other = (random_inputs(signature(PIXELS), 1, seed, {})["pixel_values"] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_fixed_batch_refuses_another_size() -> None:
    fixed = TensorSpec(name="pixel_values", dtype="float32", shape=(1, 3, 8, 8))
    assert input_shape(fixed, 1, {}) == (1, 3, 8, 8)
    with pytest.raises(InputError, match="expected batch size 1, found 4: input 'pixel_values'"):
        input_shape(fixed, 4, {})


def test_an_unknown_dynamic_dimension_is_named() -> None:
    with pytest.raises(InputError, match=r"dimension 'sequence', found none, at axis 1 of input 'input_ids'"):
        random_inputs(signature(TOKENS), 1, seed=0, dimensions={})


def test_zero_inputs_are_zero() -> None:
    inputs = zero_inputs(signature(PIXELS), 3, {})
    assert inputs["pixel_values"].shape == (3, 3, 8, 8)
    assert not inputs["pixel_values"].any()
