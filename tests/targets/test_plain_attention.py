"""Attention as XNNPACK takes it: what torch's own operator gives, with every kind of mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgevit.targets.xnnpack.attention import plain_attention


def masks() -> dict[str, Any]:
    seen = torch.arange(7)[None, None, None] < torch.tensor([7, 2, 5])[:, None, None, None]
    causal = torch.ones(4, 7, dtype=torch.bool).tril(3)
    return {"none": None, "padding": seen, "causal": causal, "added": torch.where(seen & causal, 0.0, -1e4)}


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("scale", [None, 1.0])
def test_it_is_torchs_attention(name: str, scale: float | None) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8)
    mask = masks()[name]
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    torch.testing.assert_close(plain_attention(query, key, value, mask, scale=scale), expected, rtol=1e-5, atol=1e-5)


def test_a_row_that_sees_nothing_is_finite() -> None:
    mask = torch.zeros(1, 1, 4, 7, dtype=torch.bool)
    assert (
        plain_attention(torch.randn(1, 2, 4, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8), mask)
        .isfinite()
        .all()
    )


def test_what_it_does_not_know_is_left_to_torch() -> None:
    query = torch.randn(1, 2, 4, 8)
    assert plain_attention(query, query, query, None, 0.0, True) is NotImplemented
    assert plain_attention(query, query[:, :1], query[:, :1], enable_gqa=True) is NotImplemented
