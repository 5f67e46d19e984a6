"""First parameters for the models of sequences, the same ones for the same seed.

This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def initialized(empty: Module, seed: int) -> Module:
    """Gives a module on the meta device its first float32 parameters and returns it in evaluation mode.

    Embeddings: normal, dim ** -0.5, so that they are of unit size after the factor dim ** 0.5 and logits are when they
    project. Other matrices: normal, (2 / (fan in + fan out)) ** 0.5 (Glorot and Bengio, 2010). Recurrent ones: uniform
    within (fan in) ** -0.5. Norms: 1 and 0. Biases: 0.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {name: _drawn(name, parameter.shape, generator) for name, parameter in sorted(empty.named_parameters())}
    empty.load_state_dict(state, assign=True)
    return empty.eval()


def _drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    value = torch.empty(shape, device="cpu")
    if len(shape) < 2:
        return value.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    if name.endswith("embed.weight"):
        return value.normal_(std=shape[1] ** -0.5, generator=generator)
    if ".weight_ih_" in name or ".weight_hh_" in name:
        return value.uniform_(-1.0, 1.0, generator=generator).mul_(shape[1] ** -0.5)
    return value.normal_(std=math.sqrt(2 / sum(shape)), generator=generator)
