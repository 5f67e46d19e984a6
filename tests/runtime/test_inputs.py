"""What `run` is given, against the signature."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.runtime.inputs import InputCheck
from edgevit.types import Signature, TensorSpec

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 8, 8))
MASK = TensorSpec(name="mask", dtype="int64", shape=("batch", "tokens"))
GOOD = np.zeros((2, 3, 8, 8), np.float32)


def check(*specs):
    return InputCheck(Signature(inputs=specs, outputs=()))


@pytest.mark.parametrize(
    "array",
    [
        GOOD,
        GOOD[:1],
        np.zeros((17, 3, 8, 8), np.float32),
        np.zeros((8, 8, 3, 2), np.float32).T,
        np.broadcast_to(np.float32(0), (2, 3, 8, 8)),
        np.zeros((4, 3, 8, 8), np.float32)[::2],
    ],
    ids=["two", "one", "many", "fortran", "read-only", "strided"],
)
def test_any_layout_and_batch_passes(array):
    check(IMAGE)({"image": array})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"expected a dict of the inputs \['image'\], found \[\]"),
        ({"picture": GOOD}, r"\['image'\], found \['picture'\]"),
        ({"image": GOOD, "mask": GOOD}, r"\['image'\], found \['image', 'mask'\]"),
        ({"image": GOOD, 3: GOOD}, r"found \['3', 'image'\]"),
        (GOOD, "found ndarray"),
        ([GOOD], "found list"),
        (None, "found NoneType"),
        ({"image": GOOD.tolist()}, "image as a NumPy array of float32, found list"),
        ({"image": None}, "of float32, found NoneType"),
        ({"image": GOOD.astype(np.float64)}, "of float32, found float64"),
        ({"image": GOOD.astype(np.uint8)}, "of float32, found uint8"),
        ({"image": GOOD.astype(">f4")}, "of float32, found >f4"),
        ({"image": GOOD.astype(object)}, "of float32, found object"),
        ({"image": np.float32(1)}, "of float32, found float32"),
        ({"image": np.zeros((), np.float32)}, r"image of shape \(batch, 3, 8, 8\).*found \(\)"),
        ({"image": GOOD[0]}, r"\(batch, 3, 8, 8\).*found \(3, 8, 8\)"),
        ({"image": GOOD[None]}, r"found \(1, 2, 3, 8, 8\)"),
        ({"image": GOOD.transpose(0, 2, 3, 1)}, r"found \(2, 8, 8, 3\)"),
        ({"image": GOOD[:, :, :4]}, r"found \(2, 3, 4, 8\)"),
        ({"image": GOOD[:0]}, r"no empty dimension, found \(0, 3, 8, 8\)"),
    ],
)
def test_everything_else_is_refused_in_one_line(inputs, message):
    with pytest.raises(InputError, match=message) as caught:
        check(IMAGE)(inputs)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_scalar_is_named_for_what_it_is():
    """NumPy's own scalars have a dtype and are no arrays."""
    with pytest.raises(InputError, match="found float32"):
        check(IMAGE)({"image": np.float32(1)})


def test_one_name_has_one_size_across_inputs():
    both = check(IMAGE, MASK)
    both({"image": GOOD, "mask": np.zeros((2, 5), np.int64)})
    with pytest.raises(InputError, match=r"mask of shape \(batch, tokens\).*found \(3, 5\)"):
        both({"image": GOOD, "mask": np.zeros((3, 5), np.int64)})


def test_a_fixed_batch_is_known_and_held_to():
    fixed = check(TensorSpec(name="image", dtype="float32", shape=(4, 3)))
    assert fixed.fixed_batch == 4
    assert check(IMAGE).fixed_batch is None
    fixed({"image": np.zeros((4, 3), np.float32)})
    with pytest.raises(InputError, match=r"\(4, 3\).*found \(2, 3\)"):
        fixed({"image": np.zeros((2, 3), np.float32)})
