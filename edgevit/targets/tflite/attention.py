"""ONNX's Attention as two products and a softmax, of which XNNPACK takes every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import BuildError
from edgevit.targets.tflite.model import tensor_type
from edgevit.targets.tflite.translation import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevit.targets.tflite.translation import GraphTranslation

MASKED = 1e4
"""Taken from a score that must not count; its exponential is zero beside any real score."""


def write_attention(to: GraphTranslation, node: ir.Node) -> None:
    """softmax(q kᵀ · scale + mask) v of (batch, tokens, width) or (batch, heads, tokens, width) tensors."""
    heads, name, rank = attribute(node, "q_num_heads", 0), str(node.outputs[0].name), len(to.dims(node.inputs[0]))
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    strange = any(one is not None for one in node.inputs[4:]) or len(node.outputs) > 1
    strange = strange or bool(attribute(node, "is_causal", 0)) or bool(attribute(node, "softcap", 0.0))
    if strange or heads != attribute(node, "kv_num_heads", heads) or (rank == 3 and not heads):
        raise BuildError(
            f"expected attention without a cache, groups or causality of its own for litert, found {node.name}; build "
            "onnxruntime"
        )
    if rank == 3:
        query, key, value = (_heads(to, f"{name}.{at}", one, heads) for at, one in enumerate(node.inputs[:3]))
    else:
        query, key, value = (to.read(one) for one in node.inputs[:3])
    wide, keys, out = to.to.dims(query), to.to.dims(key)[2], to.to.dims(value)[3]
    scores = (*wide[:3], keys)
    scale = to.to.constant(f"{name}.scale", np.asarray([attribute(node, "scale", 1 / math.sqrt(wide[3]))], np.float32))
    scaled = _made(to, f"{name}.scaled", "MUL", [query, scale], wide, "MulOptions")
    product = to.to.tensor(f"{name}.scores", scores)
    to.to.operator("BATCH_MATMUL", [scaled, key], [product], "BatchMatMulOptions", {"adjY": True})
    if mask is not None:
        product = _made(to, f"{name}.masked", "ADD", [product, _additive(to, mask)], scores, "AddOptions")
    weights = to.to.tensor(f"{name}.weights", scores)
    to.to.operator("SOFTMAX", [product], [weights], "SoftmaxOptions", {"beta": 1.0})
    mixed = _made(to, f"{name}.mixed", "BATCH_MATMUL", [weights, value], (*wide[:3], out), "BatchMatMulOptions")
    if rank == 3:
        joined = to.transposed(f"{name}.joined", mixed, (0, 2, 1, 3))
        mixed = to.reshaped(name, joined, to.dims(node.outputs[0]))
    to.values[name] = mixed


def _additive(to: GraphTranslation, mask: ir.Value) -> int:
    """Numbers to add to the scores: a boolean mask says where to attend, and is made such numbers once."""
    source, name = to.read(mask), f"{mask.name}.additive"
    if to.to.type(source) != tensor_type("bool"):
        return source
    if name not in to.values:
        dims = to.to.dims(source)
        ones = to.to.tensor(f"{mask.name}.ones", dims)
        fields = {"inDataType": tensor_type("bool"), "outDataType": tensor_type("float32")}
        to.to.operator("CAST", [source], [ones], "CastOptions", fields)
        one, lowest = (to.to.constant(f"{name}.{number}", np.asarray([number], np.float32)) for number in (1, MASKED))
        below = _made(to, f"{mask.name}.below", "SUB", [ones, one], dims, "SubOptions")
        to.values[name] = _made(to, name, "MUL", [below, lowest], dims, "MulOptions")
    return to.values[name]


def _made(to: GraphTranslation, name: str, kind: str, inputs: list[int], dims: tuple[int, ...], options: str) -> int:
    made = to.to.tensor(name, dims)
    to.to.operator(kind, inputs, [made], options)
    return made


def _heads(to: GraphTranslation, name: str, value: ir.Value | None, heads: int) -> int:
    assert value is not None
    dims = to.dims(value)
    split = (dims[0], dims[1], heads, dims[2] // heads)
    return to.transposed(name, to.reshaped(f"{name}.split", to.read(value), split), (0, 2, 1, 3))
