"""Attention becomes what ONNX Runtime's CPU provider runs fastest: its own MultiHeadAttention.

On a ViT-Tiny the fused operator is about 5 % faster than MatMul, Softmax, MatMul and 4 % faster than the standard
Attention kernel. A node that the fused operator cannot express (a mask, a cache, unequal heads) stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.graph.passes import replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir

CONTRIB = "com.microsoft"
TRANSLATED = {"q_num_heads", "kv_num_heads", "scale"}


def attention_for_onnxruntime(model: ir.Model) -> int:
    import onnx_ir as ir

    changed = 0
    for node in list(model.graph):
        if node.op_type != "Attention" or node.domain != "" or not _expressible(node):
            continue
        attributes: dict[str, int | float] = {"num_heads": node.attributes.get_int("q_num_heads", 0)}
        if "scale" in node.attributes:
            attributes["scale"] = node.attributes.get_float("scale", 0.0)
        fused = ir.node(
            "MultiHeadAttention",
            list(node.inputs[:3]),
            attributes,
            domain=CONTRIB,
            name=node.name,
            metadata_props=dict(node.metadata_props),
        )
        replace_node(node, fused)
        changed += 1
    if changed:
        model.opset_imports[CONTRIB] = 1
        tidy(model)
    return changed


def _expressible(node: ir.Node) -> bool:
    heads = node.attributes.get_int("q_num_heads", 0)
    only_qkv = all(value is None for value in node.inputs[3:]) and len(node.outputs) == 1
    # The exporter writes every attribute, most at their defaults.
    defaults = all(
        attribute.value in (0, 0.0)
        for name, attribute in node.attributes.items()
        if name not in TRANSLATED and attribute.value is not None
    )
    return only_qkv and heads > 0 and heads == node.attributes.get_int("kv_num_heads", 0) and defaults
