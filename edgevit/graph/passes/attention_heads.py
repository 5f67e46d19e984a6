"""Attention on split heads (batch, heads, tokens, width) becomes one on whole tensors (batch, tokens, heads * width).

The exporter writes the reshapes and transposes that split and join the heads around every Attention node, and takes
q, k and v from one projection through a five-dimensional transpose. The operator can do all of that itself from
`q_num_heads`; the graph gets smaller and every engine reads it more easily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.passes import replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir


def attention_heads(model: ir.Model) -> int:
    import onnx_ir as ir

    changed = 0
    for node in list(model.graph):
        if node.op_type != "Attention" or "q_num_heads" in node.attributes or len(node.outputs) != 1:
            continue
        joined = heads_joined(node)
        sources = _separate(node) or _from_one_projection(model, node)
        if joined is None or sources is None:
            continue
        attributes = {key: value for key, value in node.attributes.items()}
        heads = [_heads(value) for value in node.inputs[:3]]
        fused = ir.node(
            "Attention", [*sources, *node.inputs[3:]], name=node.name, metadata_props=dict(node.metadata_props)
        )
        for key, attribute in attributes.items():
            fused.attributes[key] = attribute
        fused.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", heads[0])
        fused.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", heads[1])
        replace_node(joined, fused)
        changed += 1
    if changed:
        tidy(model)
    return changed


def _heads(value: ir.Value | None) -> int:
    assert value is not None and value.shape is not None
    heads = value.shape[1]
    assert isinstance(heads, int)
    return heads


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _perm(node: ir.Node | None) -> tuple[int, ...]:
    return () if node is None else tuple(node.attributes.get_ints("perm", ()))


def _only_use(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def _holds_heads(whole: ir.Value, split: ir.Value | None, parts: int = 1) -> bool:
    """Whether `whole` is (batch, tokens, parts * heads * width) for a `split` of (batch, heads, tokens, width)."""
    if whole.shape is None or split is None or split.shape is None or len(whole.shape) != 3 or len(split.shape) != 4:
        return False
    heads, width = split.shape[1], split.shape[3]
    return isinstance(heads, int) and isinstance(width, int) and whole.shape[2] == parts * heads * width


def heads_joined(node: ir.Node) -> ir.Node | None:
    """The Reshape that joins the heads again: Attention → Transpose(0, 2, 1, 3) → Reshape(batch, tokens, width)."""
    transpose = _only_use(node.outputs[0], "Transpose")
    if transpose is None or _perm(transpose) != (0, 2, 1, 3):
        return None
    reshape = _only_use(transpose.outputs[0], "Reshape")
    return reshape if reshape is not None and _holds_heads(reshape.outputs[0], node.outputs[0]) else None


def _separate(node: ir.Node) -> list[ir.Value] | None:
    """q, k, v before Reshape(batch, tokens, heads, width) → Transpose(0, 2, 1, 3), each from its own projection."""
    sources: list[ir.Value] = []
    for value in node.inputs[:3]:
        source = heads_unsplit(value)
        if source is None:
            return None
        sources.append(source)
    return sources


def heads_unsplit(value: ir.Value | None) -> ir.Value | None:
    """(batch, tokens, heads * width) before Reshape and Transpose split its heads, or None where they did not."""
    transpose = _producer(value, "Transpose")
    reshape = _producer(transpose.inputs[0], "Reshape") if transpose and _perm(transpose) == (0, 2, 1, 3) else None
    source = reshape.inputs[0] if reshape else None
    return source if source is not None and _holds_heads(source, value) else None


def _from_one_projection(model: ir.Model, node: ir.Node) -> list[ir.Value] | None:
    """q, k, v as slices 0, 1, 2 of Reshape(batch, tokens, 3, heads, width) → Transpose(2, 0, 3, 1, 4): one Split."""
    import onnx_ir as ir

    transposes: list[ir.Node] = []
    for position, value in enumerate(node.inputs[:3]):
        squeeze = _producer(value, "Squeeze")
        part = _producer(squeeze.inputs[0], "Slice") if squeeze else None
        if part is None or _start(part) != position:
            return None
        transpose = _producer(part.inputs[0], "Transpose")
        if transpose is None or _perm(transpose) != (2, 0, 3, 1, 4):
            return None
        transposes.append(transpose)
    reshape = _producer(transposes[0].inputs[0], "Reshape")
    if len({id(transpose) for transpose in transposes}) != 1 or reshape is None:
        return None
    source = reshape.inputs[0]
    if source is None or not _holds_heads(source, node.inputs[0], parts=3):
        return None
    assert source.shape is not None
    width = int(source.shape[2]) // 3  # type: ignore[arg-type]
    split = ir.node("Split", [source], {"axis": -1, "num_outputs": 3}, num_outputs=3, name=f"{node.name}_split")
    for output, letter in zip(split.outputs, "qkv", strict=True):
        output.name = f"{node.name}_{letter}"
        output.type = source.type
        output.shape = ir.Shape([*source.shape.dims[:2], width])
    assert reshape.graph is not None
    reshape.graph.insert_before(reshape, split)
    return list(split.outputs)


def _start(part: ir.Node) -> int | None:
    """Where a Slice along axis 0 starts, if that is a constant."""
    start, axes = part.inputs[1], part.inputs[3] if len(part.inputs) > 3 else None
    if start is None or start.const_value is None or axes is None or axes.const_value is None:
        return None
    if int(np.ravel(axes.const_value.numpy())[0]) != 0:
        return None
    return int(np.ravel(start.const_value.numpy())[0])
