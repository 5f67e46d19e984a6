"""Modules that share another's parameters under the same names: the parts of a model that are graphs of their own.

This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def share(module: Module, keep: Callable[[str], bool], path: str = "") -> Module:
    """A twin of `module`, same class and same parameters (not copies), with only the submodules that `keep` wants.

    `keep` is asked with each submodule's dotted path, `module` itself being "". A submodule that it refuses loses its
    own parameters and buffers, and is gone altogether when it refuses all that is below, too.
    """
    twin = copy.copy(module)
    children = {name: share(child, keep, f"{path}.{name}".lstrip(".")) for name, child in module.named_children()}
    kept = keep(path)
    twin._modules = {name: child for name, child in children.items() if _has_tensors(child)}
    if not kept:
        twin._parameters, twin._buffers = {}, {}
    return twin


def _has_tensors(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
