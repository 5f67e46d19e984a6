"""Quantized embeddings as TensorRT takes them: gathered in float.

TensorRT-RTX 1.7.1 refuses a Gather of codes (`Quantized constant … is only allowed before DQ or PLUGIN_V2`). So the
whole table is dequantized here, to the numbers that its codes stand for. A projection that is tied to it keeps the
codes, and multiplies in int8: such a table is stored twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.passes import constant, replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir


def tables_for_tensorrt(model: ir.Model) -> int:
    """Rewrites in place; returns the number of embeddings changed."""
    changed = sum(_gather_in_float(model, node) for node in list(model.graph) if node.op_type == "Mul")
    if changed:
        tidy(model)
    return changed


def _gather_in_float(model: ir.Model, node: ir.Node) -> bool:
    """codes[ids] · scales[ids] becomes (codes · scales)[ids], the same float32 products."""
    import onnx_ir as ir

    cast = _producer(node.inputs[0], "Cast")
    codes = _producer(None if cast is None else cast.inputs[0], "Gather")
    scales = _producer(node.inputs[1], "Gather")
    if codes is None or scales is None or codes.inputs[1] is not scales.inputs[1]:
        return False
    stored, column = codes.inputs[0], scales.inputs[0]
    if stored is None or column is None or stored.const_value is None or column.const_value is None:
        return False
    table = stored.const_value.numpy().astype(np.float32) * column.const_value.numpy()
    gathered = ir.node(
        "Gather",
        [constant(model, f"{stored.name}.float", table), codes.inputs[1]],
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    replace_node(node, gathered)
    return True


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None
