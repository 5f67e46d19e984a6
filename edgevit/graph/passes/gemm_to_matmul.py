"""Gemm with alpha = beta = 1 on a constant weight becomes MatMul and Add, so that every linear layer has one form.

ONNX Runtime has no int8 kernel for a Gemm whose bias is float; for MatMul followed by Add it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.graph.passes import replace_node, tidy
from edgevit.graph.transpose import transposed

if TYPE_CHECKING:
    import onnx_ir as ir


def gemm_to_matmul(model: ir.Model) -> int:
    import onnx_ir as ir

    changed = 0
    for node in list(model.graph):
        if node.op_type != "Gemm" or not _plain(node):
            continue
        x, weight = node.inputs[0], node.inputs[1]
        assert weight is not None and weight.const_value is not None
        if node.attributes.get_int("transB", 0):
            array = transposed(weight.const_value.numpy())
            weight.const_value = ir.tensor(array, name=weight.name)
            weight.shape = ir.Shape(array.shape)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        product = ir.node("MatMul", [x, weight], name=f"{node.name}_matmul", metadata_props=dict(node.metadata_props))
        if bias is None:
            replace_node(node, product)
        else:
            product.outputs[0].name = f"{node.outputs[0].name}_matmul"
            product.outputs[0].type, product.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
            assert node.graph is not None
            node.graph.insert_before(node, product)
            replace_node(
                node,
                ir.node("Add", [product.outputs[0], bias], name=node.name, metadata_props=dict(node.metadata_props)),
            )
        changed += 1
    if changed:
        tidy(model)
    return changed


def _plain(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return (
        node.attributes.get_float("alpha", 1.0) == 1.0
        and node.attributes.get_float("beta", 1.0) == 1.0
        and not node.attributes.get_int("transA", 0)
        and weight is not None
        and weight.is_initializer()
        and len(weight.uses()) == 1
    )
