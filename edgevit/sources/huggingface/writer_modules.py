"""Encoder-decoders of transformers as a whole and as two graphs. Its classes are torch modules.

The decoder is run through transformers' own cache, whose tensors are the graph's inputs and outputs; the keys and
values of the source are computed by the encoder's graph, once.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CROSS = {"encoder_attn": ("k_proj", "v_proj"), "EncDecAttention": ("k", "v")}
"""What a decoder's attention to the source is called, and its projections to keys and values: BART's kin and T5's."""


class Heads(NamedTuple):
    """A decoder layer's attention to the source."""

    key: Any
    """`torch.nn.Linear`"""
    value: Any
    heads: int
    size: int

    def split(self, projected: Tensor) -> Tensor:
        """(batch, length, heads * size) -> (batch, heads, length, size)"""
        return projected.view(*projected.shape[:-1], self.heads, self.size).transpose(1, 2)


def cross_heads(decoder: nn.Module) -> list[Heads]:
    """The attention of every decoder layer to the source, in order; empty for a decoder built otherwise."""
    found = []
    for name, part in decoder.named_modules():
        names = CROSS.get(name.rpartition(".")[2])
        if names is None:
            continue
        attention: Any = part
        count = getattr(attention, "num_heads", None) or attention.n_heads
        size = getattr(attention, "head_dim", None) or attention.key_value_proj_dim
        found.append(Heads(getattr(attention, names[0]), getattr(attention, names[1]), count, size))
    return found


class Writer(nn.Module):
    """The whole under teacher forcing; parameters `model.…`."""

    def __init__(self, model: Any, suppressed: tuple[int, ...] = (), first: int | None = None) -> None:
        """`suppressed`: tokens that are never written. `first`: the one that every text begins with, if any."""
        super().__init__()
        self.model = model
        self.suppressed = suppressed
        self.first = first
        if first is not None:
            only = torch.zeros(model.config.vocab_size, dtype=torch.bool)
            only[first] = True
            self.register_buffer("only", only, persistent=False)
        if suppressed:
            never = torch.zeros(model.config.vocab_size, dtype=torch.bool)
            never[list(suppressed)] = True
            self.register_buffer("never", never, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """int64 (batch, source_length) twice and (batch, target_length) -> (batch, target_length, vocabulary)."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            return_dict=True,
        )
        return allowed(self, outputs["logits"])

    def parts(self) -> dict[str, nn.Module]:
        """The graphs `encoder` and `decoder`: the same parameters under the same names, none of them in both.

        A table that both look up is one parameter in each, as it is in the checkpoint.
        """
        paths = {id(part): name for name, part in self.model.named_modules()}
        encoder = paths[id(self.model.get_encoder())]

        def of_source(path: str) -> bool:
            below = path == encoder or path.startswith(f"{encoder}.")
            return below or any(path.endswith(f".{name}.{leaf}") for name, leaves in CROSS.items() for leaf in leaves)

        def of_target(path: str) -> bool:
            return not of_source(path) and path not in ("shared", "model.shared")

        return {
            "encoder": EncoderPart(holding(self.model, of_source)),
            "decoder": DecoderPart(holding(self.model, of_target), self),
        }


def allowed(module: Writer | DecoderPart, logits: Tensor, past: int = 0) -> Tensor:
    """What is never written gets the least of all scores; minus infinity would drown every measure of closeness.

    So does all but `first` where a text begins (the language that mBART and NLLB are told to write in), which gets the
    greatest: in the graph, so that no loop of any engine has to know of it.
    """
    if module.suppressed:
        logits = torch.where(module.get_buffer("never"), logits.amin(-1, keepdim=True), logits)
    if module.first is None:
        return logits
    begins = (torch.arange(logits.shape[1]) + past == 0)[:, None]
    forced = torch.where(module.get_buffer("only"), logits.amax(-1, keepdim=True), logits.amin(-1, keepdim=True))
    return torch.where(begins, forced, logits)


class EncoderPart(nn.Module):
    """The graph that is run once per source: its states, then the keys and values of each decoder layer for them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        encoder = self.model.get_encoder()
        states: Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)[
            "last_hidden_state"
        ]
        heads = cross_heads(self.model.get_decoder())
        pairs = [(one.split(one.key(states)), one.split(one.value(states))) for one in heads]
        return states, *(tensor for pair in pairs for tensor in pair)


class DecoderPart(nn.Module):
    """The graph that is run once per token: logits, then the keys and values of all tokens so far, by layer."""

    def __init__(self, model: Any, whole: Writer) -> None:
        super().__init__()
        self.model = model
        self.suppressed, self.first = whole.suppressed, whole.first
        if whole.first is not None:
            self.register_buffer("only", whole.get_buffer("only"), persistent=False)
        if whole.suppressed:
            self.register_buffer("never", whole.get_buffer("never"), persistent=False)

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """`past`: keys and values of the source for each layer, then those of the target so far for each layer."""
        half = len(past) // 2
        source, own = past[:half], past[half:]
        cache = decoder_cache(source, own)
        # Only the shape of the states is read where their keys and values are known.
        states = encoder_attention_mask.unsqueeze(-1).to(source[0].dtype)
        outputs = self.model(
            encoder_outputs=(states,),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        )
        kept = [tensor for layer in cache.self_attention_cache.layers for tensor in (layer.keys, layer.values)]
        return allowed(self, outputs["logits"], own[0].shape[-2]), *kept


class Kept(DynamicLayer):
    """A layer of the cache with its tensors: (batch, heads, length, size) both.

    It asks for no number of elements as its base does: tracing would take an empty past for a case of its own.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def get_seq_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[-2]


def decoder_cache(source: tuple[Tensor, ...], own: tuple[Tensor, ...]) -> Any:
    """Transformers' cache with these tensors in it, key and value of each layer in turn."""
    both = EncoderDecoderCache(_cache(own), _cache(source))
    both.is_updated = dict.fromkeys(range(len(source) // 2), True)
    return both


def _cache(tensors: tuple[Tensor, ...]) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = [Kept(*tensors[place : place + 2]) for place in range(0, len(tensors), 2)]
    return cache


def holding(module: Any, keep: Callable[[str], bool], path: str = "") -> Any:
    """A twin of `module`, same classes and same parameters (not copies); those of refused submodules are left out.

    `keep` is asked with each submodule's dotted path. The submodules themselves stay: transformers reaches into them.
    """
    twin = copy.copy(module)
    twin._modules = {
        name: holding(child, keep, f"{path}.{name}".lstrip(".")) if child is not None else None
        for name, child in module._modules.items()
    }
    if not keep(path):
        twin._parameters, twin._buffers = {}, {}
    return twin
