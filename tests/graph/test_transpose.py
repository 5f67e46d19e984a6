"""The transpose of a weight."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgevit.graph.transpose import transposed

sizes = st.integers(0, 70)


@given(sizes, sizes)
def test_it_is_the_transpose_and_contiguous(rows, columns):
    matrix = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    turned = transposed(matrix)
    np.testing.assert_array_equal(turned, matrix.T)
    assert turned.flags.c_contiguous and turned.dtype == np.float32
