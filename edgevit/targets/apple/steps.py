"""A decoder with a cache as two programs: Core ML has no empty arrays, so the first call has no past to be given."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.targets.torch_source import PAST
from edgevit.types import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

    from edgevit.types import FloatModel

NEWEST = "target_length"


def first_step(model: FloatModel) -> FloatModel:
    """Tokens without any before them: the decoder whose cache is empty, and is no input."""
    import torch

    given = [spec for spec in model.signature.inputs if PAST not in spec.shape]
    empty = [spec for spec in model.signature.inputs if PAST in spec.shape]
    forward = model.module.forward

    def without_past(input_ids: torch.Tensor, *rest: torch.Tensor) -> Any:
        sizes = [[0 if size == PAST else size for size in spec.shape[1:]] for spec in empty]
        past = [torch.zeros((input_ids.shape[0], *size)) for size in sizes]  # type: ignore[arg-type]
        return forward(input_ids, *rest, *past)

    module = copy.copy(model.module)
    module.forward = without_past
    outputs = tuple(_resized(spec, f"{PAST} + {NEWEST}", NEWEST) for spec in model.signature.outputs)
    return msgspec.structs.replace(model, module=module, signature=Signature(inputs=tuple(given), outputs=outputs))


def next_step(model: FloatModel) -> FloatModel:
    """One token after at least one other."""

    def once(spec: TensorSpec) -> TensorSpec:
        return _resized(_resized(spec, f"{PAST} + {NEWEST}", f"{PAST} + 1"), NEWEST, 1)

    inputs, outputs = model.signature.inputs, model.signature.outputs
    signature = Signature(inputs=tuple(map(once, inputs)), outputs=tuple(map(once, outputs)))
    return msgspec.structs.replace(model, signature=signature)


def without_empty(module: torch.fx.GraphModule) -> None:
    """Takes arrays of no elements out of concatenations, in place: the converter has none either."""
    import torch

    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target != torch.ops.aten.cat.default:
            continue
        kept = [one for one in node.args[0] if 0 not in one.meta["val"].shape]
        if len(kept) == 1:
            node.replace_all_uses_with(kept[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def _resized(spec: TensorSpec, size: str, to: int | str) -> TensorSpec:
    shape = tuple(to if one == size else one for one in spec.shape)
    return msgspec.structs.replace(spec, shape=shape)
