"""What calibration saw, and the plan that follows from it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgevit.types.signature import Value


class ChannelStats(msgspec.Struct, frozen=True, kw_only=True):
    """What calibration saw at the input of one or more layers that read the same tensor.

    `low`/`high` are the smallest and largest value; `histogram` counts |x| in `bins` equal bins over [0, limit];
    `channel_max`, `channel_mean`, `channel_power` are max |x|, E[x] and E[x²] per channel (last axis for linear,
    axis 1 for convolution); `rows` is a seeded sample of rows, shape (≤ n, channels), float32; `count` is how many
    rows were seen, so that `histogram` sums to count · channels.
    """

    low: float
    high: float
    limit: float
    histogram: Any
    channel_max: Any
    channel_mean: Any
    channel_power: Any
    rows: Any
    count: int


class CalibrationStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of every quantizable layer's input, keyed by parameter name, with the digests they belong to."""

    model_digest: str
    set_digest: str
    set_name: str
    samples: int
    seed: int
    inputs: dict[str, ChannelStats]
    outputs: dict[str, tuple[float, float]] = {}
    """Smallest and largest value of each layer's output, for the engines that need an output scale."""
    digest: str = ""


class LayerPlan(Value, frozen=True, kw_only=True):
    """One quantized layer, named by its parameter (`blocks.0.attn.qkv.weight`).

    Everything is in the units of the *adjusted* model: with equalization s, column c of the weight is multiplied by
    s[c] and the producer of channel c divided by it, before `weight_scale` and `input_scale` apply. int8, symmetric,
    zero point 0: q = clip(round_half_even(x / scale), -127 or -128, 127).
    """

    name: str
    kind: Literal["linear", "conv", "embedding", "recurrent"]
    """Of an `embedding` (one that is an output projection as well is `linear`) and of a `recurrent` weight only the
    weight is quantized: their numbers are brought back to float before anything is computed with them."""
    input_scale: float = 1.0
    """1 where the input is not quantized."""
    weight_scale: tuple[float, ...]
    """One per output channel (axis 0 of the PyTorch parameter; of an embedding, one per row)."""
    output_scale: float | None = None
    """For the engines that need one (ExecuTorch); the ONNX writer never uses it."""
    input_method: str = "min-max"
    weight_method: str = "min-max"
    equalization: tuple[float, ...] = ()
    """Per input channel; empty when the layer is not equalized."""
    equalization_into: str = ""
    """The parameters that absorb 1 / equalization: a norm (`blocks.0.norm1`) or a linear's output rows."""
    bias_correction: tuple[float, ...] = ()
    """Added to the layer's bias, per output channel; empty for none."""


class SkippedLayer(Value, frozen=True, kw_only=True):
    name: str
    reason: str


class QuantPlan(Value, frozen=True, kw_only=True):
    """Which layers run in int8 with which scales, and why the others do not. One plan serves every target."""

    schema: int = 1
    model: str
    model_digest: str
    statistics_digest: str = ""
    samples: int = 0
    seed: int = 0
    safe_without_vnni: bool = False
    """Weight codes kept so small in pairs that no int16 accumulator overflows on x86-64 processors without VNNI."""
    layers: tuple[LayerPlan, ...]
    skipped: tuple[SkippedLayer, ...] = ()
