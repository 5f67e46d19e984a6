"""Weight scales under which no int8 kernel overflows on x86-64 processors without VNNI.

There, OpenVINO and ONNX Runtime multiply an unsigned activation a (the signed one plus 128) with a signed weight w by
vpmaddubsw, which adds the products of two neighbours along the input channels, (0, 1), (2, 3), …, in int16. Both were
seen to return -3.3 instead of -413 for the largest codes. Since a ≤ 255,

    |a₀w₀ + a₁w₁| ≤ 255 · 128 = 32640 < 32767    if    |w₀ + w₁| ≤ 128,

and two codes of opposite sign cannot overflow. So a channel needs a coarser scale only if its largest neighbouring
pair asks for one: for a normally distributed row about 1.4 times the scale, where seven-bit weights cost 2 times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.quantize.scales import scale_from_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

PAIR_LIMIT = 128
"""|w₀ + w₁| in codes; rounding two weights adds at most 1, so scales are chosen for 127."""


def pair_safe_scales(weight: FloatArray, scale: FloatArray) -> FloatArray:
    """The smallest scales, at least `scale` (one per row), under which no pair of codes of a row exceeds 128.

    `weight` is a linear layer's (out, in), float32.
    """
    padded = np.pad(weight, ((0, 0), (0, weight.shape[1] % 2)))
    largest = np.abs(padded[:, 0::2] + padded[:, 1::2]).max(axis=1)
    # One unit in the last place up, so that the division in float32 cannot round past the bound.
    needed = np.nextafter(scale_from_range(largest), np.float32(np.inf))
    safe: FloatArray = np.maximum(scale, needed)
    return safe


def seven_bit_scales(weight: FloatArray, scale: FloatArray) -> FloatArray:
    """Scales under which every code of a row stays within ±64: safe in whatever order a kernel pairs them.

    For convolutions, whose kernels are repacked in ways that differ between engines.
    """
    needed = np.abs(weight).max(axis=1) / np.float32(PAIR_LIMIT // 2)
    safe: FloatArray = np.maximum(scale, scale_from_range(needed * np.float32(127)))
    return safe
