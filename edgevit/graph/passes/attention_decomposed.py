"""Attention becomes MatMul, Softmax, MatMul, for compilers that have no operator for it or none for its shape.

The steps are those of the operator's own definition (ONNX Attention-23): the scale goes onto Q, a mask is added to the
scores, the softmax runs over the keys. Heads may be split already, as a decoder has them that appends to its cache
before. A node with a cache of its own, a soft cap or unequal heads is left alone; `undecomposed` names those that are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.graph.passes import constant, replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir

TRANSLATED = {"q_num_heads", "kv_num_heads", "scale"}
LOWEST = np.float32(-1e4)
"""Added where a boolean mask says no: its exponential is zero beside any real score, and float16 can hold it."""


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
    """Tensors of known width, equal heads, no operator's own cache, and every other attribute at its default."""
    only_mask = all(value is None for value in node.inputs[4:]) and len(node.outputs) == 1
    defaults = all(
        attribute.value in (0, 0.0)
        for name, attribute in node.attributes.items()
        if name not in TRANSLATED and attribute.value is not None
    )
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    known_mask = mask is None or (mask.dtype is not None and mask.dtype.name in ("FLOAT", "BOOL"))
    return only_mask and defaults and known_mask and _heads(node) > 0


def _heads(node: ir.Node) -> int:
    """The one number of heads of queries, keys and values; 0 where they differ or a width is not known."""
    found = node.attributes.get_int("q_num_heads", 0)
    if not found:
        shapes = [() if value is None or value.shape is None else value.shape.dims for value in node.inputs[:3]]
        heads = {shape[1] if len(shape) == 4 and isinstance(shape[3], int) else 0 for shape in shapes}
        only = next(iter(heads))
        return only if len(heads) == 1 and isinstance(only, int) else 0
    widths = [_width(value) for value in node.inputs[:3]]
    known = all(width and width % found == 0 for width in widths)
    return found if known and found == node.attributes.get_int("kv_num_heads", 0) else 0


def _width(value: ir.Value | None) -> int:
    """Of whole heads, (batch, tokens, heads * width)."""
    dims = () if value is None or value.shape is None else value.shape.dims
    return dims[2] if len(dims) == 3 and isinstance(dims[2], int) else 0


def _decompose(model: ir.Model, node: ir.Node) -> None:
    """softmax(scale · Q Kᵀ + mask) V on (batch, heads, tokens, width), heads split before and joined after."""
    import onnx_ir as ir

    heads, whole = _heads(node), "q_num_heads" in node.attributes
    queries, keys, values = (_split(model, node, index, heads) for index in range(3))
    batch, _, tokens, width = _dims(queries.shape)
    scale = node.attributes.get_float("scale", width**-0.5) if "scale" in node.attributes else width**-0.5
    factor = constant(model, f"{node.name}.scale", np.float32(scale))
    scaled = _before(node, "Mul", [queries, factor], queries.shape, "scaled")
    transposed = _before(node, "Transpose", [keys], _swapped(keys.shape), "transposed", {"perm": (0, 1, 3, 2)})
    square = ir.Shape([batch, heads, tokens, _dims(keys.shape)[2]])
    scores = _before(node, "MatMul", [scaled, transposed], square, "scores")
    bias = _bias(model, node)
    if bias is not None:
        scores = _before(node, "Add", [scores, bias], square, "masked")
    weights = _before(node, "Softmax", [scores], square, "weights", {"axis": -1})
    out = _dims(values.shape)[3]
    metadata = dict(node.metadata_props)
    if not whole:
        replace_node(node, ir.node("MatMul", [weights, values], name=node.name, metadata_props=metadata))
        return
    mixed = _before(node, "MatMul", [weights, values], ir.Shape([batch, heads, tokens, out]), "mixed")
    joined = _before(
        node, "Transpose", [mixed], ir.Shape([batch, tokens, heads, out]), "joined", {"perm": (0, 2, 1, 3)}
    )
    shape = constant(model, f"{node.name}.whole", np.asarray([0, 0, heads * out], np.int64))
    replace_node(node, ir.node("Reshape", [joined, shape], name=node.name, metadata_props=metadata))


def _bias(model: ir.Model, node: ir.Node) -> ir.Value | None:
    """What is added to the scores, from the mask."""
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None or mask.dtype is None or mask.dtype.name != "BOOL":
        return mask
    zero, lowest = constant(model, "edgevit.zero", np.float32(0)), constant(model, "edgevit.lowest", LOWEST)
    return _before(node, "Where", [mask, zero, lowest], mask.shape, "bias")


def _split(model: ir.Model, node: ir.Node, index: int, heads: int) -> ir.Value:
    """Input `index` as (batch, heads, tokens, width)."""
    import onnx_ir as ir

    source, letter = node.inputs[index], "qkv"[index]
    assert source is not None
    if "q_num_heads" not in node.attributes:
        return source
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
