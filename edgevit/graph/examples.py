"""Inputs to trace and to check a model with: seeded, of the signature's types, and values that a model accepts.

Token ids stay below the smallest embedding of the module; masks are those of ragged rows, padded on the right, with at
least one token each. Every named dimension gets the size it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edgevit.types import Signature, TensorSpec

PAST = "past_length"
"""The one dimension that may be 0: tokens whose keys and values a decoder has kept."""
USUAL = 128
"""Tokens that batches are tried at: the logits of eight texts of 512 tokens and a vocabulary of 37,000 are 600 MB."""
LENGTH = 16
"""Largest size of a dimension that a check tries where nobody says how long the model's inputs may be."""


class Traceable(Protocol):
    """What capturing and lowering need of a `FloatModel` or of a `FloatPart`."""

    @property
    def name(self) -> str: ...
    @property
    def module(self) -> Any: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def depth(self) -> int | None: ...


def example_inputs(model: Traceable, sizes: Mapping[str, int], seed: int = 0) -> tuple[Any, ...]:
    """One torch tensor per input, in order; `sizes` gives every named dimension of the signature."""
    ids = _least_embedding(model.module)
    return tuple(example_input(spec, sizes, ids=ids, seed=seed) for spec in model.signature.inputs)


def example_input(spec: TensorSpec, sizes: int | Mapping[str, int], *, ids: int = 1, seed: int = 0) -> Any:
    """A seeded tensor of a signature's type. Integers lie in [0, `ids`), those of a mask are 1s and then 0s per row.

    `sizes` is one number for every named dimension, or one by name.
    """
    import torch

    shape = [_size(dim, sizes) for dim in spec.shape]
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=dtype)
    if spec.name.endswith("mask") and len(shape) == 2:
        return _ragged_mask(shape[0], shape[1], generator).to(dtype)
    return torch.randint(0, max(ids, 1), shape, generator=generator).to(dtype)


def distinct_sizes(signature: Signature, batch: int) -> dict[str, int]:
    """A size for every named dimension, first axes `batch`, the others all different and none 0 or 1.

    Tracing freezes a 0 or a 1, and takes two dimensions of one size for the same.
    """
    lengths = named_lengths(signature)
    return {**{name: batch for name in batch_names(signature)}, **{name: 5 + 2 * i for i, name in enumerate(lengths)}}


def size_cases(signature: Signature, batches: Sequence[int], longest: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Sizes to try, for each batch: every length at its least, its largest, and in between in different mixtures.

    `longest` gives largest sizes by name; a past and what follows it stay within the longest together. The first batch
    meets all of them at once, and a single token after the longest past; the others stay within `USUAL`.
    """
    lengths = named_lengths(signature)
    most = {name: longest.get("target_length" if name == PAST else name, LENGTH) for name in lengths}
    usual = {name: min(size, USUAL) for name, size in most.items()}
    for batch in batches:
        first = {name: batch for name in batch_names(signature)}
        if not lengths:
            yield first
            continue
        for step in range(3):
            sizes = {name: _edges(name, size)[(step + index) % 3] for index, (name, size) in enumerate(usual.items())}
            yield {**first, **_within(sizes)}
        yield {**first, **{name: _edges(name, LENGTH)[0] for name in lengths}}
        if batch == batches[-1]:
            yield {**first, **_without_past(usual)}
        if batch == batches[0]:
            yield {**first, **_without_past(most)}
            if PAST in most:
                yield {**first, **_within({**most, PAST: most[PAST] - 1})}


def batch_names(signature: Signature) -> tuple[str, ...]:
    """Names of dynamic first axes."""
    found = (spec.shape[0] for spec in signature.inputs if spec.shape)
    return tuple(dict.fromkeys(dim for dim in found if isinstance(dim, str)))


def named_lengths(signature: Signature) -> tuple[str, ...]:
    """Names of the dynamic dimensions behind the first axes, in order of appearance."""
    first = batch_names(signature)
    found = (dim for spec in signature.inputs for dim in spec.shape[1:])
    return tuple(dict.fromkeys(dim for dim in found if isinstance(dim, str) and dim not in first))


def _edges(name: str, longest: int) -> tuple[int, int, int]:
    if name == PAST:
        return 0, 1, min(5, max(longest - 1, 0))
    return 1, min(4, longest), longest


def _within(sizes: dict[str, int]) -> dict[str, int]:
    """Shortens what follows a past (`target_length`) so that both together stay within its longest."""
    if not sizes.get(PAST):
        return sizes
    follows = {name: max(1, size - sizes[PAST]) for name, size in sizes.items() if name.startswith("target")}
    return {**sizes, **follows}


def _without_past(sizes: dict[str, int]) -> dict[str, int]:
    return {name: 0 if name == PAST else size for name, size in sizes.items()}


def _size(dim: int | str, sizes: int | Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return sizes if isinstance(sizes, int) else sizes[dim]


def _ragged_mask(rows: int, length: int, generator: Any) -> Any:
    """The last row is full, as in a batch that is padded to its longest."""
    import torch

    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    if rows:
        lengths[-1] = length
    return torch.arange(length)[None, :] < lengths[:, None]


def _least_embedding(module: Any) -> int:
    """Rows of the smallest embedding: an id below it is valid in each. 1 where there is none."""
    from torch import nn

    rows = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return min(rows, default=1)
