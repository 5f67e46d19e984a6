"""Attention becomes MatMul, Softmax, MatMul, for compilers that have no operator for it or none for its shape.

The steps are those of the operator's own definition (ONNX Attention-23): the scale goes onto Q, the softmax runs over
the keys. A node with a mask, a cache or unequal heads is left alone, and `undecomposed` names those that are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.graph.passes import constant, replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir

TRANSLATED = {"q_num_heads", "kv_num_heads", "scale"}


def attention_decomposed(model: ir.Model) -> int:
    changed = 0
    for node in list(model.graph):
        if _is_attention(node) and _expressible(node):
            _decompose(model, node)
            changed += 1
    if changed:
        tidy(model)
    return changed


def undecomposed(model: ir.Model) -> tuple[str, ...]:
    """Names of the Attention nodes that `attention_decomposed` cannot express."""
    return tuple(str(node.name) for node in model.graph if _is_attention(node) and not _expressible(node))


def _is_attention(node: ir.Node) -> bool:
    return node.op_type == "Attention" and node.domain == ""


def _expressible(node: ir.Node) -> bool:
    """Whole tensors (batch, tokens, width) of known width, equal heads, and every other attribute at its default."""
    heads = node.attributes.get_int("q_num_heads", 0)
    only_qkv = all(value is None for value in node.inputs[3:]) and len(node.outputs) == 1
    defaults = all(
        attribute.value in (0, 0.0)
        for name, attribute in node.attributes.items()
        if name not in TRANSLATED and attribute.value is not None
    )
    widths = [_width(value) for value in node.inputs[:3]]
    known = all(width and heads and width % heads == 0 for width in widths)
    return only_qkv and defaults and known and heads == node.attributes.get_int("kv_num_heads", 0)


def _width(value: ir.Value | None) -> int:
    dims = () if value is None or value.shape is None else value.shape.dims
    return dims[2] if len(dims) == 3 and isinstance(dims[2], int) else 0


def _decompose(model: ir.Model, node: ir.Node) -> None:
    """softmax(scale · Q Kᵀ) V on (batch, heads, tokens, width), with the heads split before and joined after."""
    import onnx_ir as ir

    heads = node.attributes.get_int("q_num_heads", 0)
    queries, keys, values = (_heads_split(model, node, index, heads) for index in range(3))
    width = _width(node.inputs[0]) // heads
    scale = node.attributes.get_float("scale", width**-0.5) if "scale" in node.attributes else width**-0.5
    factor = constant(model, f"{node.name}.scale", np.float32(scale))
    scaled = _before(node, "Mul", [queries, factor], queries.shape, "scaled")
    transposed = _before(node, "Transpose", [keys], _swapped(keys.shape), "transposed", {"perm": (0, 1, 3, 2)})
    batch, _, tokens, _ = _dims(queries.shape)
    square = ir.Shape([batch, heads, tokens, _dims(keys.shape)[2]])
    scores = _before(node, "MatMul", [scaled, transposed], square, "scores")
    weights = _before(node, "Softmax", [scores], square, "weights", {"axis": -1})
    out = _width(node.inputs[2]) // heads
    mixed = _before(node, "MatMul", [weights, values], ir.Shape([batch, heads, tokens, out]), "mixed")
    joined = _before(
        node, "Transpose", [mixed], ir.Shape([batch, tokens, heads, out]), "joined", {"perm": (0, 2, 1, 3)}
    )
    whole = constant(model, f"{node.name}.whole", np.asarray([0, 0, heads * out], np.int64))
    metadata = dict(node.metadata_props)
    replace_node(node, ir.node("Reshape", [joined, whole], name=node.name, metadata_props=metadata))


def _heads_split(model: ir.Model, node: ir.Node, index: int, heads: int) -> ir.Value:
    """Input `index` as (batch, heads, tokens, width)."""
    import onnx_ir as ir

    source, letter = node.inputs[index], "qkv"[index]
    assert source is not None
    width = _width(source) // heads
    batch, tokens, _ = _dims(source.shape)
    # 0 copies the dimension, so that batch and length may be dynamic.
    target = constant(model, f"{node.name}.{letter}_heads", np.asarray([0, 0, heads, width], np.int64))
    split = _before(node, "Reshape", [source, target], ir.Shape([batch, tokens, heads, width]), f"{letter}_split")
    shape = ir.Shape([batch, heads, tokens, width])
    return _before(node, "Transpose", [split], shape, letter, {"perm": (0, 2, 1, 3)})


def _before(
    node: ir.Node,
    op_type: str,
    inputs: list[ir.Value],
    shape: ir.Shape | None,
    name: str,
    attributes: dict[str, Any] | None = None,
) -> ir.Value:
    """A new operation in front of `node`, of the type of `node`'s first input."""
    import onnx_ir as ir

    made = ir.node(op_type, inputs, attributes or {}, name=f"{node.name}.{name}")
    first = node.inputs[0]
    assert node.graph is not None and first is not None
    made.outputs[0].name, made.outputs[0].type, made.outputs[0].shape = made.name, first.type, shape
    node.graph.insert_before(node, made)
    return made.outputs[0]


def _dims(shape: ir.Shape | None) -> tuple[Any, ...]:
    assert shape is not None
    return tuple(shape.dims)


def _swapped(shape: ir.Shape | None) -> ir.Shape:
    import onnx_ir as ir

    *front, rows, columns = _dims(shape)
    return ir.Shape([*front, columns, rows])
