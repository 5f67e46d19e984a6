"""The transpose of a weight, without jumping through memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = 32
"""Rows at a time: as many elements as a cache line or two hold, of columns that stay in the cache."""


def transposed(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The transpose of a matrix (rows, columns), contiguous.

    NumPy's own copy of a whole transposed matrix jumps by the length of a row for every element: for the MLP of a
    ViT-B it takes nine times as long.
    """
    turned = np.empty(matrix.shape[::-1], matrix.dtype)
    for start in range(0, len(matrix), _ROWS):
        turned[:, start : start + _ROWS] = matrix[start : start + _ROWS].T
    return turned
