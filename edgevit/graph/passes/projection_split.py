"""One projection split into q, k and v along its last axis becomes Reshape, Transpose and three Gathers.

TensorRT-RTX 1.7.1 moves a Split's slices in front of the product, onto the weight; that breaks the weight's
dequantization off the GEMM, and every int8 qkv projection falls back to a float GEMM on weights dequantized at each
call. Behind a transpose the product stays whole and runs in int8. The values are the same, in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.graph.passes import constant, tidy

if TYPE_CHECKING:
    import onnx_ir as ir


def projection_split(model: ir.Model) -> int:
    changed = 0
    for node in list(model.graph):
        if node.op_type == "Split" and _equal_parts(node):
            _rewrite(model, node)
            changed += 1
    if changed:
        tidy(model)
    return changed


def _equal_parts(node: ir.Node) -> bool:
    """Whether it cuts (batch, tokens, width) into parts of one known width."""
    source = node.inputs[0]
    if source is None or source.shape is None or len(source.shape) != 3:
        return False
    widths = {None if value.shape is None else value.shape[2] for value in node.outputs}
    axis = node.attributes.get_int("axis", 0)
    return axis in (-1, 2) and len(widths) == 1 and isinstance(next(iter(widths)), int)


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    import onnx_ir as ir

    source, parts = node.inputs[0], len(node.outputs)
    assert source is not None and source.shape is not None and node.outputs[0].shape is not None
    batch, tokens, _ = source.shape.dims
    width: Any = node.outputs[0].shape[2]
    target = constant(model, f"{node.name}.parts", np.asarray([0, 0, parts, width], np.int64))
    reshape = ir.node("Reshape", [source, target], name=f"{node.name}.reshape")
    transpose = ir.node("Transpose", [reshape.outputs[0]], {"perm": (2, 0, 1, 3)}, name=f"{node.name}.transpose")
    _describe(reshape, source, ir.Shape([batch, tokens, parts, width]))
    _describe(transpose, source, ir.Shape([parts, batch, tokens, width]))
    assert node.graph is not None
    node.graph.insert_before(node, [reshape, transpose])
    names = [value.name for value in node.outputs]
    for index, value in enumerate(node.outputs):
        position = constant(model, f"edgevit.part.{index}", np.asarray(index, np.int64))
        gather = ir.node("Gather", [transpose.outputs[0], position], {"axis": 0}, name=f"{node.name}.{index}")
        _describe(gather, source, ir.Shape([batch, tokens, width]))
        node.graph.insert_before(node, gather)
        ir.convenience.replace_all_uses_with(value, gather.outputs[0], replace_graph_outputs=True)
        value.name, gather.outputs[0].name = None, names[index]
    node.graph.remove(node, safe=True)


def _describe(node: ir.Node, like: ir.Value, shape: ir.Shape) -> None:
    value = node.outputs[0]
    value.name, value.type, value.shape = node.name, like.type, shape
