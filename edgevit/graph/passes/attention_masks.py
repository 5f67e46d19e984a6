"""A mask that is one row for all queries becomes one row per query, where the queries' number is not 1 for certain.

ONNX's Attention broadcasts its mask; ONNX Runtime 1.32's kernel insists on as many rows as there are queries
(`inconsistent q_sequence_length (between attn_mask and Q)`). Attention nodes that read one mask share what is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.graph.passes import constant, tidy
from edgevit.graph.passes.attention_heads import heads_unsplit

if TYPE_CHECKING:
    import onnx_ir as ir


def attention_masks(model: ir.Model) -> int:
    expanded: dict[tuple[ir.Value, str], ir.Value] = {}
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Attention" or len(node.inputs) < 4:
            continue
        mask, queries = node.inputs[3], _queries(node)
        if mask is None or not _one_row(mask) or queries == 1:
            continue
        key = (mask, str(queries))
        if key not in expanded:
            expanded[key] = _expand(model, node, mask)
        node.replace_input_with(3, expanded[key])
        changed += 1
    if changed:
        tidy(model)
    return changed


def _one_row(mask: ir.Value) -> bool:
    return mask.shape is not None and len(mask.shape) >= 2 and mask.shape[-2] == 1


def _tokens_axis(node: ir.Node) -> int:
    """Of (batch, heads, tokens, width) 2, of (batch, tokens, heads * width) 1."""
    return 1 if "q_num_heads" in node.attributes else 2


def _queries(node: ir.Node) -> Any:
    value = node.inputs[0]
    assert value is not None
    dim = None if value.shape is None else value.shape[_tokens_axis(node)]
    return dim if isinstance(dim, int) else getattr(dim, "value", dim)


def _expand(model: ir.Model, node: ir.Node, mask: ir.Value) -> ir.Value:
    """`mask` with its axis -2 grown to the number of queries of `node`, put in front of `node`."""
    import onnx_ir as ir

    source, axis = node.inputs[0], _tokens_axis(node)
    # Before its heads are split: who rewrites the attention is then rid of the split.
    whole = heads_unsplit(source)
    source, axis = (source, axis) if whole is None else (whole, 1)
    assert source is not None and mask.shape is not None and node.graph is not None
    name = f"{node.name}.mask"
    one = constant(model, "edgevit.one", np.asarray([1], np.int64))
    shape = ir.node("Shape", [source], {"start": axis, "end": axis + 1}, name=f"{name}_rows")
    both = ir.node("Concat", [shape.outputs[0], one], {"axis": 0}, name=f"{name}_shape")
    grown = ir.node("Expand", [mask, both.outputs[0]], name=name)
    for made, count in ((shape, 1), (both, 2)):
        made.outputs[0].name = str(made.name)
        made.outputs[0].type, made.outputs[0].shape = ir.TensorType(ir.DataType.INT64), ir.Shape([count])
    rows = None if source.shape is None else source.shape[axis]
    grown.outputs[0].name, grown.outputs[0].type = name, mask.type
    grown.outputs[0].shape = ir.Shape([*mask.shape.dims[:-2], rows, mask.shape.dims[-1]])
    node.graph.insert_before(node, [shape, both, grown])
    return grown.outputs[0]
