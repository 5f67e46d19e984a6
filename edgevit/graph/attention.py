"""How many attention blocks a graph shows: an export whose attention is not recognizable has lost its structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import CaptureError

if TYPE_CHECKING:
    import onnx_ir as ir

ATTENTION_OPERATORS = {"Attention", "MultiHeadAttention"}
BETWEEN = {"Where", "IsNaN", "Dropout", "Cast", "Identity"}
"""What may stand between Softmax and the product with V: a boolean mask adds IsNaN → Where."""


def count_attention(model: ir.Model) -> int:
    """Attention operators, plus Softmax followed by a MatMul where the graph is decomposed."""
    return sum(node.op_type in ATTENTION_OPERATORS or _decomposed(node) for node in model.graph)


def check_attention(model: ir.Model, depth: int | None, name: str) -> int:
    """The number of attention blocks; raises CaptureError if it is not the architecture's depth."""
    found = count_attention(model)
    if depth is not None and found != depth:
        raise CaptureError(
            f"expected {depth} attention blocks in the graph of {name}, found {found}; use "
            "torch.nn.functional.scaled_dot_product_attention in the model so that they can be recognized"
        )
    return found


def _decomposed(node: ir.Node) -> bool:
    if node.op_type != "Softmax":
        return False
    frontier = [node]
    while frontier:
        for consumer in frontier.pop().outputs[0].consumers():
            if consumer.op_type == "MatMul":
                return True
            if consumer.op_type in BETWEEN:
                frontier.append(consumer)
    return False
