"""A float16 or bfloat16 graph becomes a float32 one that rounds where the half-precision one does.

ONNX Runtime's CPU provider has hardly any float16 kernels: it computes such a graph in float32 between casts, drops
the casts between neighbours, and so never overflows. 10 · 1000 · 1000 gives 1e7 there and infinity on a GPU. With the
roundings written out as Casts of their own they stay, and a collapse shows here. Sums inside one operator run in
float32, as tensor cores do it; an engine that fuses operators rounds less often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.passes import tidy

if TYPE_CHECKING:
    import onnx_ir as ir

HALVES = ("FLOAT16", "BFLOAT16")
MOVEMENT = frozenset(
    {"Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that only move numbers: what comes out is rounded already."""


def half_simulated(model: ir.Model) -> int:
    """Rewrites in place; returns the number of roundings."""
    import onnx_ir as ir

    for value in model.graph.initializers.values():
        if _is_half(value):
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    roundings = 0
    for node in list(model.graph):
        for value in [value for value in node.outputs if _is_half(value)]:
            assert value.dtype is not None
            half = value.dtype
            value.type = ir.TensorType(ir.DataType.FLOAT)
            if node.op_type == "Cast":
                node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
            elif node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
                array = node.attributes["value"].as_tensor().numpy().astype(np.float32)
                node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array))
            if node.op_type not in MOVEMENT:
                _round(node, value, half)
                roundings += 1
    tidy(model)
    return roundings


def _is_half(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.name in HALVES


def _round(node: ir.Node, value: ir.Value, half: ir.DataType) -> None:
    """Two Casts behind `value`, to half and back; every reader gets what comes out of them."""
    import onnx_ir as ir

    down = ir.node("Cast", [value], {"to": int(half)}, name=f"{value.name}.down")
    up = ir.node("Cast", [down.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}.up")
    for made, dtype in ((down, half), (up, ir.DataType.FLOAT)):
        made.outputs[0].name, made.outputs[0].shape = made.name, value.shape
        made.outputs[0].type = ir.TensorType(dtype)
    for reader, index in tuple(value.uses()):
        reader.replace_input_with(index, up.outputs[0])
    down.replace_input_with(0, value)
    assert node.graph is not None
    node.graph.insert_after(node, [down, up])
