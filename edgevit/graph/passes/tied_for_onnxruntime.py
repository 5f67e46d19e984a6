"""A tied output projection reads its embedding's table as it lies, by ONNX Runtime's own FusedMatMul.

Written as MatMul of a Transpose, ONNX Runtime's optimizer would turn the table once and for all, and a build would hold
it twice: 76 MB more for `zoo:transformer-base`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.graph.layers import tied_table
from edgevit.graph.passes import replace_node, tidy

if TYPE_CHECKING:
    import onnx_ir as ir

CONTRIB = "com.microsoft"


def tied_for_onnxruntime(model: ir.Model) -> int:
    """Rewrites in place; returns how many projections there were."""
    import onnx_ir as ir

    tied = [(node, table) for node in model.graph if (table := tied_table(node)) is not None]
    for node, table in tied:
        fused = ir.node(
            "FusedMatMul",
            [node.inputs[0], table],
            {"transB": 1},
            domain=CONTRIB,
            name=node.name,
            metadata_props=dict(node.metadata_props),
        )
        replace_node(node, fused)
    if tied:
        model.opset_imports[CONTRIB] = 1
        tidy(model)
    return len(tied)
