"""The Transformer of "Attention Is All You Need" (Vaswani et al., 2017, arXiv:1706.03762), and its encoder alone.

Norms follow their residual sum, as in the paper. Masks are added to the scores: 0 to attend, `MASKED` not to; the
exponential of `MASKED` is exactly zero, so padding changes no result, and a row of padding alone gives no NaN.
This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.types import Signature, TensorSpec
from edgevit.zoo.initialize import initialized
from edgevit.zoo.sequence_config import ClassifierConfig, TransformerConfig
from edgevit.zoo.sharing import share
from edgevit.zoo.signatures import MASK, TARGET_TOKENS, TOKENS, target_logits

MASKED = -1e4
"""Added to a score that must not count: far below every real score, and still a float16."""

SOURCE_PROJECTIONS = ("cross_attn.k_proj", "cross_attn.v_proj")
"""The decoder's layers that read the source alone: they run once per source, in the encoder's graph."""


def sinusoidal_positions(length: int, dim: int) -> Tensor:
    """Section 3.5: float32 (length, dim), sines in the even columns, cosines in the odd ones. Always on the CPU."""
    position = torch.arange(length, dtype=torch.float64, device="cpu")[:, None]
    angle = position / 10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


def padding_mask(attention_mask: Tensor) -> Tensor:
    """int64 (batch, length), 1 for tokens -> float32 (batch, 1, 1, length) to add to scores."""
    return ((attention_mask == 0).to(torch.float32) * MASKED)[:, None, None, :]


def causal_mask(past: int, length: int, device: torch.device) -> Tensor:
    """float32 (length, past + length): each of the last `length` tokens sees itself and everything before it."""
    seen_by = torch.arange(past, past + length, device=device)[:, None]
    return (torch.arange(past + length, device=device)[None, :] > seen_by).to(torch.float32) * MASKED


class MultiHeadAttention(nn.Module):
    """Section 3.2.2. Keys and values are made apart from the attention, so that a decoder can keep them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        """(batch, length, dim) -> (batch, heads, length, head_dim)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.head_dim).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the tokens that are attended to: (batch, length, dim) -> two of (batch, heads, length, head_dim)."""
        return self.split(self.k_proj(x)), self.split(self.v_proj(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """The tokens `x` (batch, length, dim) attend to `key` and `value`; `mask` broadcasts to the scores."""
        mixed = functional.scaled_dot_product_attention(self.split(self.q_proj(x)), key, value, attn_mask=mask)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(x.shape))
        return out


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer: (batch, length, dim) in and out."""

    def __init__(self, config: TransformerConfig | ClassifierConfig) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(config.dim, config.heads)
        self.self_attn_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.dim)
        self.mlp_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.self_attn_norm(x + self.self_attn(x, *self.self_attn.keys_values(x), mask))
        out: Tensor = self.mlp_norm(x + self.fc2(functional.relu(self.fc1(x))))
        return out


class Encoder(nn.Module):
    """int64 (batch, length) ids and their mask -> float32 (batch, length, dim)."""

    def __init__(self, config: TransformerConfig | ClassifierConfig, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.dim)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.register_buffer("positions", sinusoidal_positions(config.max_length, config.dim), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = embedded(self.embed, self.get_buffer("positions"), input_ids, 0)
        mask = padding_mask(attention_mask)
        for layer in self.layers:
            x = layer(x, mask)
        return x


class DecoderLayer(nn.Module):
    """Masked self-attention, attention to the encoder, feed-forward: (batch, length, dim) in and out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(config.dim, config.heads)
        self.self_attn_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.cross_attn = MultiHeadAttention(config.dim, config.heads)
        self.cross_attn_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.dim)
        self.mlp_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, masks: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens, then the keys and values of all tokens so far: `past` and these.

        `masks`: for the tokens so far, and for the source. `source`: the keys and values of the source.
        """
        own = self.self_attn.keys_values(x)
        key, value = torch.cat((past[0], own[0]), dim=2), torch.cat((past[1], own[1]), dim=2)
        x = self.self_attn_norm(x + self.self_attn(x, key, value, masks[0]))
        x = self.cross_attn_norm(x + self.cross_attn(x, *source, masks[1]))
        x = self.mlp_norm(x + self.fc2(functional.relu(self.fc1(x))))
        return x, key, value


class Decoder(nn.Module):
    """One step or many, with the keys and values of what came before; see `Seq2SeqTransformer.decode`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.target_vocabulary, config.dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.register_buffer("positions", sinusoidal_positions(config.max_length, config.dim), persistent=False)

    def source_keys_values(self, states: Tensor) -> tuple[Tensor, ...]:
        """Of the encoder's states (batch, source_length, dim): key and value for each layer's attention to them."""
        layers = cast("list[DecoderLayer]", self.layers)
        return tuple(tensor for layer in layers for tensor in layer.cross_attn.keys_values(states))

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        source, own = past[: 2 * len(self.layers)], past[2 * len(self.layers) :]
        before = own[0].shape[2]
        x = embedded(self.embed, self.get_buffer("positions"), input_ids, before)
        masks = causal_mask(before, input_ids.shape[1], input_ids.device), padding_mask(encoder_attention_mask)
        present: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            pair = slice(2 * index, 2 * index + 2)
            x, key, value = layer(x, masks, source[pair], own[pair])
            present += (key, value)
        return functional.linear(x, self.embed.weight), *present


def embedded(embed: nn.Embedding, positions: Tensor, input_ids: Tensor, before: int) -> Tensor:
    """Sections 3.4 and 3.5: ids (batch, length), the first at position `before` -> (batch, length, dim)."""
    place = torch.arange(input_ids.shape[1], device=input_ids.device) + before
    x: Tensor = embed(input_ids) * math.sqrt(embed.embedding_dim)
    return x + functional.embedding(place, positions)


class EncoderPart(nn.Module):
    """The graph that is run once per source: `Seq2SeqTransformer.encode`."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        states = self.encoder(input_ids, attention_mask)
        return states, *self.decoder.source_keys_values(states)


class DecoderPart(nn.Module):
    """The graph that is run once per token: `Seq2SeqTransformer.decode`."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = self.decoder(input_ids, encoder_attention_mask, *past)
        return out


class Seq2SeqTransformer(nn.Module):
    """Encoder and decoder; the output projection is the decoder's embedding (section 3.4)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, config.source_vocabulary)
        self.decoder = Decoder(config)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """int64 (batch, source_length) twice -> what `encoder_signature` names.

        The states of the source, then the keys and values that each decoder layer will attend to.
        """
        states = self.encoder(input_ids, attention_mask)
        return states, *self.decoder.source_keys_values(states)

    def decode(self, input_ids: Tensor, encoder_attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """The next tokens, int64 (batch, target_length), after those of `past` -> what `decoder_signature` names.

        `past`: keys and values of the source for each layer, as `encode` gave them, then those of the target so far
        for each layer (length 0 at the start). Out: the logits, then the target's keys and values, longer by these.
        """
        out: tuple[Tensor, ...] = self.decoder(input_ids, encoder_attention_mask, *past)
        return out

    def empty_past(self, batch: int) -> tuple[Tensor, ...]:
        """The target's keys and values before its first token: float32 (batch, heads, 0, head_dim) each."""
        shape = (batch, self.config.heads, 0, self.config.head_dim)
        return tuple(self.decoder.embed.weight.new_zeros(shape) for _ in range(2 * self.config.decoder_layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """The whole under teacher forcing: logits float32 (batch, target_length, target_vocabulary)."""
        _, *source = self.encode(input_ids, attention_mask)
        past = (*source, *self.empty_past(input_ids.shape[0]))
        return self.decode(decoder_input_ids, attention_mask, *past)[0]

    def parts(self) -> dict[str, nn.Module]:
        """The graphs `encoder` and `decoder`: the same parameters under the same names, none of them in both."""
        keys_values = share(self.decoder, lambda path: path.endswith(SOURCE_PROJECTIONS))
        rest = share(self.decoder, lambda path: not path.endswith(SOURCE_PROJECTIONS))
        return {"encoder": EncoderPart(self.encoder, keys_values), "decoder": DecoderPart(rest)}


class EncoderClassifier(nn.Module):
    """Texts to class scores: the mean of the encoder's tokens, without the padding, and a linear layer."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, config.vocabulary)
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 (batch, source_length) twice -> float32 (batch, classes)."""
        states = self.encoder(input_ids, attention_mask)
        real = attention_mask.to(states.dtype)[:, :, None]
        logits: Tensor = self.head((states * real).sum(1) / real.sum(1).clamp(min=1.0))
        return logits


# ------------------------------------------------------------------------------------------ initialization


def empty_transformer(config: TransformerConfig) -> Seq2SeqTransformer:
    """The module on the meta device: names and shapes, no memory. Give it parameters before it is used."""
    with torch.device("meta"):
        return Seq2SeqTransformer(config)


def initialize_transformer(config: TransformerConfig, seed: int = 0) -> Seq2SeqTransformer:
    """A new float32 module in evaluation mode; the same seed gives the same parameters."""
    return initialized(empty_transformer(config), seed)


def empty_classifier(config: ClassifierConfig) -> EncoderClassifier:
    """The module on the meta device: names and shapes, no memory. Give it parameters before it is used."""
    with torch.device("meta"):
        return EncoderClassifier(config)


def initialize_classifier(config: ClassifierConfig, seed: int = 0) -> EncoderClassifier:
    """A new float32 module in evaluation mode; the same seed gives the same parameters."""
    return initialized(empty_classifier(config), seed)


# ---------------------------------------------------------------------------------------------- signatures


def whole_signature(config: TransformerConfig) -> Signature:
    """Teacher forcing: source, its mask and the target so far in, the logits of every target token out."""
    return Signature(inputs=(TOKENS, MASK, TARGET_TOKENS), outputs=(target_logits(config.target_vocabulary),))


def encoder_signature(config: TransformerConfig) -> Signature:
    """Of `parts()["encoder"]`, in the order of its results."""
    states = TensorSpec(name="encoder_hidden_states", dtype="float32", shape=("batch", "source_length", config.dim))
    return Signature(inputs=(TOKENS, MASK), outputs=(states, *_cache(config, "present", "encoder", "source_length")))


def decoder_signature(config: TransformerConfig) -> Signature:
    """Of `parts()["decoder"]`, in the order of its arguments and results."""
    ids = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "target_length"))
    mask = TensorSpec(name="encoder_attention_mask", dtype="int64", shape=("batch", "source_length"))
    source = _cache(config, "past_key_values", "encoder", "source_length")
    past = _cache(config, "past_key_values", "decoder", "past_length")
    present = _cache(config, "present", "decoder", "past_length + target_length")
    logits = target_logits(config.target_vocabulary)
    return Signature(inputs=(ids, mask, *source, *past), outputs=(logits, *present))


def classifier_signature(config: ClassifierConfig) -> Signature:
    """Text in, class scores out."""
    logits = TensorSpec(name="logits", dtype="float32", shape=("batch", config.classes))
    return Signature(inputs=(TOKENS, MASK), outputs=(logits,))


def _cache(config: TransformerConfig, prefix: str, of: str, length: str) -> tuple[TensorSpec, ...]:
    shape = ("batch", config.heads, length, config.head_dim)
    return tuple(
        TensorSpec(name=f"{prefix}.{layer}.{of}.{kind}", dtype="float32", shape=shape)
        for layer in range(config.decoder_layers)
        for kind in ("key", "value")
    )
