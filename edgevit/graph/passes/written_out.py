"""Operators of opset 23 that engines lack or read otherwise are written out in older ones.

The exporter fuses what a model wrote plainly. ONNX Runtime 1.32 has no RMSNormalization before opset 23, which its own
attention does not go with, and refuses a RotaryEmbedding whose cosines serve every row of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.passes import constant, replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir


def written_out(model: ir.Model) -> int:
    changed = 0
    for node in list(model.graph):
        if node.op_type == "RMSNormalization" and node.attributes.get_int("axis", -1) == -1:
            _root_mean_square(model, node)
        elif node.op_type == "RotaryEmbedding" and _by_halves(node):
            _rotary(model, node)
        else:
            continue
        changed += 1
    if changed:
        tidy(model)
    return changed


def _root_mean_square(model: ir.Model, node: ir.Node) -> None:
    """x / √(mean x² + ε) · scale, over the last axis."""
    x, scale = node.inputs[0], node.inputs[1]
    epsilon = np.float32(node.attributes.get_float("epsilon", 1e-5))
    last = constant(model, "edgevit.last_axis", np.asarray([-1], np.int64))
    two = constant(model, "edgevit.two", np.asarray(2, np.float32))
    small = constant(model, f"edgevit.epsilon.{epsilon:g}", np.asarray(epsilon, np.float32))
    square = _before(node, "Pow", [x, two], "square")
    mean = _before(node, "ReduceMean", [square, last], "mean", {"keepdims": 1})
    root = _before(node, "Sqrt", [_before(node, "Add", [mean, small], "more")], "root")
    _replace(node, "Mul", [_before(node, "Div", [x, root], "normal"), scale])


def _by_halves(node: ir.Node) -> bool:
    """Whether the whole last axis of (batch, heads, length, size) is turned, its halves against each other.

    Without positions the cosines are (1 or batch, length, size / 2), whatever the graph says of their shape.
    """
    x = node.inputs[0]
    positions = node.inputs[3] if len(node.inputs) > 3 else None
    return (
        positions is None
        and not node.attributes.get_int("interleaved", 0)
        and not node.attributes.get_int("rotary_embedding_dim", 0)
        and x is not None and x.shape is not None and len(x.shape) == 4
    )  # fmt: skip


def _rotary(model: ir.Model, node: ir.Node) -> None:
    """(a, b) -> (a cos - b sin, b cos + a sin); cosine and sine are (1 or batch, length, size / 2)."""
    import onnx_ir as ir

    heads = constant(model, "edgevit.axis_of_heads", np.asarray([1], np.int64))
    cosine = _before(node, "Unsqueeze", [node.inputs[1], heads], "cos")
    sine = _before(node, "Unsqueeze", [node.inputs[2], heads], "sin")
    split = ir.node(
        "Split", [node.inputs[0]], {"axis": -1, "num_outputs": 2}, num_outputs=2, name=f"{node.name}.halves"
    )
    assert node.graph is not None
    node.graph.insert_before(node, split)
    split.metadata_props.update(node.metadata_props)
    for place, value in enumerate(split.outputs):
        value.name, value.type = f"{node.name}.half.{place}", node.outputs[0].type
    first, second = split.outputs
    turned = _before(
        node,
        "Sub",
        [_before(node, "Mul", [first, cosine], "a.cos"), _before(node, "Mul", [second, sine], "b.sin")],
        "a",
    )
    other = _before(
        node,
        "Add",
        [_before(node, "Mul", [second, cosine], "b.cos"), _before(node, "Mul", [first, sine], "a.sin")],
        "b",
    )
    _replace(node, "Concat", [turned, other], {"axis": -1})


def _before(
    node: ir.Node, kind: str, inputs: list[ir.Value | None], name: str, attributes: dict[str, int] | None = None
) -> ir.Value:
    import onnx_ir as ir

    new = ir.node(kind, inputs, attributes, name=f"{node.name}.{name}", metadata_props=dict(node.metadata_props))
    new.outputs[0].name, new.outputs[0].type = f"{node.name}.{name}", node.outputs[0].type
    assert node.graph is not None
    node.graph.insert_before(node, new)
    return new.outputs[0]


def _replace(node: ir.Node, kind: str, inputs: list[ir.Value | None], attributes: dict[str, int] | None = None) -> None:
    import onnx_ir as ir

    replace_node(node, ir.node(kind, inputs, attributes, name=node.name, metadata_props=dict(node.metadata_props)))
