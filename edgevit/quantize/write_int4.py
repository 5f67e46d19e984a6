"""Weights of linear layers in four bits, one scale per block of input channels; nothing is calibrated.

Blocks run along the input channels (axis 0 of an ONNX weight), as TensorRT's weight-only products and ONNX's blocked
DequantizeLinear (opset 21) have them. Of each block the scale is searched that leaves the smallest squared error: a
block's largest weight may be worth clipping where there are only fifteen steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes import constant, tidy
from edgevit.quantize.scales import SMALLEST_SCALE, levels

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.graph.layers import Layer

BLOCKS = (64, 32, 16)
"""Sizes of a block, the first that divides a layer's input channels into two or more: 192 and 384 are no multiples of
128, and TensorRT-RTX 1.7.1 unpacks a weight of a single block beside the product."""
SHARES = tuple(1 - step / 20 for step in range(9))
"""Of a block's largest weight, what the largest code may stand for."""


def write_int4(model: ir.Model) -> tuple[str, ...]:
    """Stores weights in int4, in place; returns the names of the layers. The others have no block that divides them."""
    nodes = {str(node.name): node for node in model.graph}
    done = []
    for layer in quantizable_layers(model):
        block = next((size for size in BLOCKS if layer.in_channels % size == 0 < layer.in_channels // size - 1), 0)
        if layer.kind == "linear" and not layer.tied and block:
            _store(model, nodes[layer.node], layer, block)
            done.append(layer.name)
    tidy(model)
    return tuple(done)


def blocked(
    weight: NDArray[np.float32], block: int, held: Any = np.float16
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes in [-8, 7] of a weight (in, out), and their scales (in / block, out), numbers that `held` can hold.

    `held` is float16 or bfloat16 (of ml_dtypes): an engine stores its scales in one of them, and codes made for others
    would be wrong by up to half a step.
    """
    # bfloat16 has float32's exponents, so there nothing but the smallest scale is in the way.
    normal = float(np.finfo(np.float16).smallest_normal) if held is np.float16 else 0.0
    smallest = np.float32(max(SMALLEST_SCALE, normal))
    rows = weight.reshape(-1, block, weight.shape[1])
    largest = np.abs(rows).max(axis=1)
    best = np.full(largest.shape, np.inf, np.float32)
    scales = np.empty(largest.shape, np.float32)
    for share in SHARES:
        tried = np.maximum(largest * np.float32(share / levels(4)), smallest).astype(held).astype(np.float32)
        error = ((_rounded(rows, tried) * tried[:, None] - rows) ** 2).sum(axis=1)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, tried, scales)
    return _rounded(rows, scales).reshape(weight.shape).astype(np.int8), scales


def _rounded(rows: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    codes: NDArray[np.float32] = np.clip(np.rint(rows / scales[:, None]), -8, 7)
    return codes


def _store(model: ir.Model, node: ir.Node, layer: Layer, block: int) -> None:
    import ml_dtypes
    import onnx_ir as ir

    value = model.graph.initializers[layer.name]
    assert value.const_value is not None
    codes, scales = blocked(value.const_value.numpy(), block)
    stored = constant(model, f"{layer.name}.int4", codes.astype(ml_dtypes.int4))
    scale = constant(model, f"{layer.name}.scale", scales)
    up = ir.node("DequantizeLinear", [stored, scale], {"axis": 0, "block_size": block}, name=f"{layer.name}.dequantize")
    up.outputs[0].name = f"{layer.name}.dequantized"
    up.outputs[0].type, up.outputs[0].shape = value.type, value.shape
    model.graph.insert_before(node, up)
    node.replace_input_with(1, up.outputs[0])
