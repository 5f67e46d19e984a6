"""Transformers' models of texts as modules of token ids and their mask. Its classes are torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

FAR_BELOW = -1e9
"""What padding counts as when the largest value of each feature is taken; sentence-transformers' number."""


class TextLabels(nn.Module):
    """Ids and mask (batch, length) to class scores (batch, classes) or (batch, length, tags); parameters `model.…`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)["logits"]
        return logits


class TextFeatures(nn.Module):
    """Ids and mask (batch, length) to one vector per text (batch, features); parameters `model.…`, `dense.N.…`."""

    def __init__(
        self, model: nn.Module, pooling: Sequence[str], dense: Sequence[tuple[nn.Linear, str]], *, normalize: bool
    ) -> None:
        """`pooling`: names of `pooled`, put side by side; none: the model's own `text_embeds`."""
        super().__init__()
        self.model = model
        self.pooling = tuple(pooling)
        self.dense = nn.ModuleList(layer for layer, _ in dense)
        self.activations = tuple(name for _, name in dense)
        self.normalize = normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        if self.pooling:
            tokens = outputs["last_hidden_state"]
            vector = torch.cat([pooled(tokens, attention_mask, mode) for mode in self.pooling], dim=-1)
        else:
            vector = outputs["text_embeds"]
        for layer, activation in zip(self.dense, self.activations, strict=True):
            vector = layer(vector)
            vector = torch.tanh(vector) if activation == "tanh" else vector
        return nn.functional.normalize(vector, dim=-1) if self.normalize else vector


def pooled(tokens: Tensor, attention_mask: Tensor, mode: str) -> Tensor:
    """Tokens (batch, length, features) as one vector (batch, features); padding takes no part.

    The modes are those of sentence-transformers' `Pooling`.
    """
    if mode == "cls":
        return tokens[:, 0]
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
    if mode == "max":
        return torch.where(mask > 0, tokens, FAR_BELOW).amax(1)
    if mode == "lasttoken":
        last = (attention_mask.sum(1) - 1).clamp(min=0)
        return tokens.gather(1, last[:, None, None].expand(-1, 1, tokens.shape[2])).squeeze(1)
    if mode == "weightedmean":
        mask = mask * torch.arange(1, tokens.shape[1] + 1, dtype=tokens.dtype)[None, :, None]
    total, count = (tokens * mask).sum(1), mask.sum(1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)
