"""Attention as two products and a softmax, which is what XNNPACK takes of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


UNSEEN = -1e9
"""Added where a boolean mask says no: its exponential is zero beside any score. A row of nothing else, only padding
has one, gets the mean of all values and not torch's zeros."""


def with_plain_attention(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Attention in plain operators, its mask added to the scores.

    torch's own form guards against rows that a mask has emptied (six more operators a block, of which XNNPACK takes
    none) and broadcasts before its products, which costs copies.
    """
    import torch

    from edgevit.graph.quiet import quiet_torch

    with quiet_torch():
        table = {torch.ops.aten.scaled_dot_product_attention.default: plain_attention}
        plain: torch.export.ExportedProgram = program.run_decompositions(table)
        return plain


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *rest: Any,  # dropout, is_causal
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(q kᵀ · scale + mask) v over (…, tokens, width); NotImplemented keeps torch's own form."""
    import torch

    if any(rest) or enable_gqa or query.shape[:-2] != key.shape[:-2]:
        return NotImplemented
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    tokens, keys, width = query.shape[-2], key.shape[-2], value.shape[-1]
    scores = torch.bmm(
        (query * factor).reshape(-1, tokens, query.shape[-1]),
        key.reshape(-1, keys, key.shape[-1]).transpose(1, 2),
    )
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.where(attn_mask, 0.0, UNSEEN)
        scores = (scores.reshape(*query.shape[:-1], keys) + attn_mask).reshape(-1, tokens, keys)
    mixed = torch.bmm(torch.softmax(scores, dim=-1), value.reshape(-1, keys, width))
    return mixed.reshape(*query.shape[:-1], width)
