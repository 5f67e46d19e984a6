"""The digest that statistics, plans and builds use to tell one float model from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def module_digest(module: nn.Module, architecture: bytes) -> str:
    """SHA-256 over the architecture's description and every parameter and buffer, in the order of their names."""
    import torch

    digest = hashlib.sha256(architecture)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
