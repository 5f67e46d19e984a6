"""Names every linear layer's and convolution's node after its module: engines show that name in their profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.graph.layers import calibrated_layers

if TYPE_CHECKING:
    import onnx_ir as ir


def name_nodes(model: ir.Model) -> int:
    nodes = {str(node.name): node for node in model.graph}
    taken = set(nodes)
    changed = 0
    for layer in calibrated_layers(model):
        name = layer_node_name(layer.name)
        if layer.node == name or name in taken:
            continue
        node = nodes[layer.node]
        node.name = name
        if layer.kind == "conv" and not node.outputs[0].is_graph_output():
            node.outputs[0].name = name  # ONNX Runtime's blocked convolution takes its name from here
        taken.add(name)
        changed += 1
    return changed


def layer_node_name(parameter: str) -> str:
    """The node's name for a layer named by its parameter: `blocks.0.attn.qkv.weight` → `blocks.0.attn.qkv`."""
    return parameter.removesuffix(".weight")
