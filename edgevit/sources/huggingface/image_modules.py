"""A transformers image model as a module of one tensor in, one tensor out. Its classes are torch modules."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


METHOD = "interpolate_pos_encoding"
"""What every position embedding of transformers that can be interpolated has."""


class ImageModel(nn.Module):
    """`pixel_values` (batch, channels, height, width) to one of the model's outputs; its parameters are `model.…`."""

    def __init__(self, model: nn.Module, output: str, *, interpolate: bool = False) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.interpolate = interpolate

    def forward(self, pixel_values: Tensor) -> Tensor:
        arguments = {"interpolate_pos_encoding": True} if self.interpolate else {}
        outputs = self.model(pixel_values=pixel_values, return_dict=True, **arguments)
        if self.output == "class_token":
            tokens: Tensor = outputs["last_hidden_state"]
            return tokens[:, 0]
        chosen: Tensor = outputs[self.output]
        # MobileViT's and ConvNeXT's pooled features keep two dimensions of size 1.
        return chosen.flatten(1) if self.output == "pooler_output" else chosen


def choose_output(model: nn.Module, outputs: Any, *, classifies: bool) -> str | None:
    """Which output is the task's: class scores, or features: projected, pooled, of the class token, or all tokens."""
    if classifies:
        return "logits" if outputs.get("logits") is not None else None
    for name in ("image_embeds", "pooler_output"):
        if outputs.get(name) is not None:
            return name
    tokens = outputs.get("last_hidden_state")
    if tokens is None:
        return None
    has_class_token = any(name.endswith("cls_token") for name, _ in model.named_parameters())
    return "class_token" if has_class_token and tokens.ndim == 3 else "last_hidden_state"


def takes_interpolation(model: nn.Module) -> bool:
    """Whether the model's forward can be asked to interpolate its position embeddings."""
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters


def freeze_positions(module: nn.Module, example: Tensor) -> int:
    """Computes interpolated position embeddings once for the size of `example` and keeps the result.

    Otherwise every inference interpolates the same parameters again. Returns how many places really interpolated.
    """
    import torch

    frozen: list[nn.Module] = []
    owners = [part for part in module.modules() if callable(getattr(part, METHOD, None))]
    for part in owners:
        vars(part)[METHOD] = partial(_record, frozen, part, getattr(part, METHOD))
    with torch.no_grad():
        module(example)
    for part in owners:
        if part not in frozen:
            del vars(part)[METHOD]
    return len(frozen)


def _record(
    frozen: list[nn.Module],
    part: nn.Module,
    interpolate: Callable[..., Tensor],
    embeddings: Tensor,
    height: int,
    width: int,
) -> Tensor:
    positions = interpolate(embeddings, height, width)
    if isinstance(positions, nn.Parameter):  # nothing to interpolate: the parameter itself
        return positions
    part.register_buffer("interpolated_positions", positions.detach(), persistent=False)
    vars(part)[METHOD] = partial(_kept, part)
    frozen.append(part)
    return positions


def _kept(part: nn.Module, embeddings: Tensor, height: int, width: int) -> Tensor:
    kept: Tensor = part.interpolated_positions  # type: ignore[assignment]
    return kept
