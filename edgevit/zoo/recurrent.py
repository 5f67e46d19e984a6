"""Recurrent networks: an encoder-decoder with one context vector, and taggers.

"Sequence to Sequence Learning with Neural Networks" (Sutskever et al., 2014, arXiv:1409.3215) with LSTM cells, and
"Learning Phrase Representations using RNN Encoder-Decoder" (Cho et al., 2014, arXiv:1406.1078) with GRU cells: all
that the decoder ever sees of the source is one vector of fixed size. Padding is on the right, so reading from left to
right meets it after the last token, and reading from right to left starts at the last token (`mirror`): it changes no
result. This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.types import Signature, TensorSpec
from edgevit.zoo.initialize import initialized
from edgevit.zoo.sequence_config import RecurrentConfig, TaggerConfig
from edgevit.zoo.signatures import MASK, TARGET_TOKENS, TOKENS, target_logits

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def mirror(attention_mask: Tensor) -> Tensor:
    """int64 (batch, length) mask -> int64 (batch, length) places that turn the tokens round and leave the padding."""
    place = torch.arange(attention_mask.shape[1], device=attention_mask.device)[None, :]
    last = attention_mask.sum(1, keepdim=True) - 1
    return torch.where(place <= last, last - place, place)


def taken(x: Tensor, places: Tensor) -> Tensor:
    """Tokens in another order: (batch, length, dim) and int64 (batch, other length) -> (batch, other length, dim)."""
    return torch.gather(x, 1, places[:, :, None].expand(-1, -1, x.shape[2]))


class BothWays(nn.Module):
    """One layer that reads in both directions: (batch, length, dim) -> (batch, length, 2 * hidden)."""

    def __init__(self, cell: str, dim: int, hidden: int) -> None:
        super().__init__()
        self.left_to_right = CELLS[cell](dim, hidden, batch_first=True)
        self.right_to_left = CELLS[cell](dim, hidden, batch_first=True)

    def forward(self, x: Tensor, mirrored: Tensor) -> Tensor:
        ahead, _ = self.left_to_right(x)
        back, _ = self.right_to_left(taken(x, mirrored))
        return torch.cat((ahead, taken(back, mirrored)), dim=-1)


class RecurrentEncoder(nn.Module):
    """A source to the decoder's first states, which are all that is kept of it."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.source_vocabulary, config.dim)
        wide = 2 * config.encoder_hidden
        self.layers = nn.ModuleList(
            BothWays(config.cell, wide if index else config.dim, config.encoder_hidden)
            for index in range(config.encoder_layers)
        )
        self.states = nn.ModuleList(
            nn.ModuleDict({state: nn.Linear(wide, config.decoder_hidden) for state in config.states})
            for _ in range(config.decoder_layers)
        )

    def context(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The context vector (batch, 2 * encoder_hidden): what each direction has read when it is through."""
        mirrored = mirror(attention_mask)
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mirrored)
        hidden = x.shape[2] // 2
        last = mirrored[:, :1].clamp(min=0)  # where the first token goes is where the last one is
        return torch.cat((taken(x, last)[:, 0, :hidden], x[:, 0, hidden:]), dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        context = self.context(input_ids, attention_mask)
        first: list[Tensor] = []
        for layer in self.states.children():
            for name, linear in layer.named_children():
                # A hidden state lies between -1 and 1; an LSTM's cell has no such bound.
                first.append(torch.tanh(linear(context)) if name == "hidden" else linear(context))
        return tuple(first)


class RecurrentDecoder(nn.Module):
    """One step or many, from the states that came before; see `Seq2SeqRecurrent.decode`."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.lstm = config.cell == "lstm"
        self.embed = nn.Embedding(config.target_vocabulary, config.dim)
        self.layers = nn.ModuleList(
            CELLS[config.cell](config.decoder_hidden if index else config.dim, config.decoder_hidden, batch_first=True)
            for index in range(config.decoder_layers)
        )
        self.out_proj = nn.Linear(config.decoder_hidden, config.dim)

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        x = self.embed(input_ids)
        carried = len(past) // len(self.layers)
        present: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            before = [state[None] for state in past[index * carried : (index + 1) * carried]]
            x, after = layer(x, tuple(before) if self.lstm else before[0])
            present += [state[0] for state in (after if self.lstm else (after,))]
        return functional.linear(self.out_proj(x), self.embed.weight), *present


class EncoderPart(nn.Module):
    """The graph that is run once per source: `Seq2SeqRecurrent.encode`."""

    def __init__(self, encoder: RecurrentEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        first: tuple[Tensor, ...] = self.encoder(input_ids, attention_mask)
        return first


class DecoderPart(nn.Module):
    """The graph that is run once per token: `Seq2SeqRecurrent.decode`."""

    def __init__(self, decoder: RecurrentDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = self.decoder(input_ids, *past)
        return out


class Seq2SeqRecurrent(nn.Module):
    """Encoder and decoder; the output projection ends in the decoder's embedding, as the Transformer's does."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = RecurrentEncoder(config)
        self.decoder = RecurrentDecoder(config)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """int64 (batch, source_length) twice -> the decoder's first states, as `encoder_signature` names them."""
        first: tuple[Tensor, ...] = self.encoder(input_ids, attention_mask)
        return first

    def decode(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """The next tokens, int64 (batch, target_length), from the states `past` -> logits and the states after them."""
        out: tuple[Tensor, ...] = self.decoder(input_ids, *past)
        return out

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """The whole under teacher forcing: logits float32 (batch, target_length, target_vocabulary)."""
        return self.decode(decoder_input_ids, *self.encode(input_ids, attention_mask))[0]

    def parts(self) -> dict[str, nn.Module]:
        """The graphs `encoder` and `decoder`: the same parameters under the same names, none of them in both."""
        return {"encoder": EncoderPart(self.encoder), "decoder": DecoderPart(self.decoder)}


class Tagger(nn.Module):
    """A tag for each token: int64 (batch, source_length) ids and mask -> float32 (batch, source_length, tags)."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.dim)
        self.layers = nn.ModuleList(
            BothWays(config.cell, 2 * config.hidden if index else config.dim, config.hidden)
            for index in range(config.layers)
        )
        self.head = nn.Linear(2 * config.hidden, config.tags)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mirrored = mirror(attention_mask)
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, mirrored)
        logits: Tensor = self.head(x)
        return logits


# ------------------------------------------------------------------------------------------ initialization


def empty_recurrent(config: RecurrentConfig) -> Seq2SeqRecurrent:
    """The module on the meta device: names and shapes, no memory. Give it parameters before it is used."""
    with torch.device("meta"):
        return Seq2SeqRecurrent(config)


def initialize_recurrent(config: RecurrentConfig, seed: int = 0) -> Seq2SeqRecurrent:
    """A new float32 module in evaluation mode; the same seed gives the same parameters."""
    return initialized(empty_recurrent(config), seed)


def empty_tagger(config: TaggerConfig) -> Tagger:
    """The module on the meta device: names and shapes, no memory. Give it parameters before it is used."""
    with torch.device("meta"):
        return Tagger(config)


def initialize_tagger(config: TaggerConfig, seed: int = 0) -> Tagger:
    """A new float32 module in evaluation mode; the same seed gives the same parameters."""
    return initialized(empty_tagger(config), seed)


# ---------------------------------------------------------------------------------------------- signatures


def whole_signature(config: RecurrentConfig) -> Signature:
    """Teacher forcing: source, its mask and the target so far in, the logits of every target token out."""
    return Signature(inputs=(TOKENS, MASK, TARGET_TOKENS), outputs=(target_logits(config.target_vocabulary),))


def encoder_signature(config: RecurrentConfig) -> Signature:
    """Of `parts()["encoder"]`, in the order of its results."""
    return Signature(inputs=(TOKENS, MASK), outputs=_states(config, "present"))


def decoder_signature(config: RecurrentConfig) -> Signature:
    """Of `parts()["decoder"]`, in the order of its arguments and results."""
    ids = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "target_length"))
    logits = target_logits(config.target_vocabulary)
    return Signature(inputs=(ids, *_states(config, "past_key_values")), outputs=(logits, *_states(config, "present")))


def tagger_signature(config: TaggerConfig) -> Signature:
    """Text in, scores of the tags of each token out."""
    logits = TensorSpec(name="logits", dtype="float32", shape=("batch", "source_length", config.tags))
    return Signature(inputs=(TOKENS, MASK), outputs=(logits,))


def _states(config: RecurrentConfig, prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=f"{prefix}.{layer}.{state}", dtype="float32", shape=("batch", config.decoder_hidden))
        for layer in range(config.decoder_layers)
        for state in config.states
    )
