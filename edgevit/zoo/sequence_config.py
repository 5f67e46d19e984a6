"""What the models that read and write sequences are made of, as values. Importing this needs no torch."""

from __future__ import annotations

from typing import Literal

from edgevit.errors import InputError
from edgevit.types import Value


class TransformerConfig(Value, frozen=True, kw_only=True, tag="transformer", tag_field="kind"):
    """The encoder-decoder of "Attention Is All You Need" (arXiv:1706.03762); the defaults are Table 3's base model."""

    source_vocabulary: int
    target_vocabulary: int
    dim: int = 512
    """Width of a token; a multiple of `heads`."""
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    hidden: int = 2048
    """Width of the feed-forward layers."""
    max_length: int = 512
    """Positions of the encoding, for sources and for targets; not a parameter, so it costs nothing on disk."""
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_heads(self.dim, self.heads)
        _check_sizes(self, ("source_vocabulary", "target_vocabulary", "encoder_layers", "decoder_layers", "hidden"))
        _check_sizes(self, ("max_length",))

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


class ClassifierConfig(Value, frozen=True, kw_only=True, tag="encoder-classifier", tag_field="kind"):
    """The Transformer's encoder, the mean of its tokens, and a linear layer for the classes."""

    vocabulary: int
    classes: int
    dim: int
    """Width of a token; a multiple of `heads`."""
    heads: int
    encoder_layers: int
    hidden: int
    max_length: int = 512
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_heads(self.dim, self.heads)
        _check_sizes(self, ("vocabulary", "classes", "encoder_layers", "hidden", "max_length"))


class RecurrentConfig(Value, frozen=True, kw_only=True, tag="recurrent-seq2seq", tag_field="kind"):
    """A recurrent encoder, one context vector of fixed size, and a recurrent decoder that starts from it."""

    cell: Literal["lstm", "gru"]
    source_vocabulary: int
    target_vocabulary: int
    dim: int
    """Width of an embedded token."""
    encoder_hidden: int
    """Width of the encoder's state in each of its two directions; the context vector is twice as wide."""
    decoder_hidden: int
    encoder_layers: int = 1
    decoder_layers: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self, ("source_vocabulary", "target_vocabulary", "dim", "encoder_hidden", "decoder_hidden"))
        _check_sizes(self, ("encoder_layers", "decoder_layers"))

    @property
    def states(self) -> tuple[str, ...]:
        """What a decoder layer carries from token to token."""
        return ("hidden", "cell") if self.cell == "lstm" else ("hidden",)


class TaggerConfig(Value, frozen=True, kw_only=True, tag="recurrent-tagger", tag_field="kind"):
    """Recurrent layers that read in both directions, and a linear layer for the tags of each token."""

    cell: Literal["rnn", "lstm", "gru"]
    """`rnn` is the plain one: h = tanh(W x + U h + b)."""
    vocabulary: int
    tags: int
    dim: int
    """Width of an embedded token."""
    hidden: int
    """Width of the state in each direction."""
    layers: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self, ("vocabulary", "tags", "dim", "hidden", "layers"))


SequenceConfig = TransformerConfig | ClassifierConfig | RecurrentConfig | TaggerConfig


def _check_heads(dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise InputError(
            f"expected a width (dim) in multiples of the number of heads, found dim {dim} with {heads} heads; "
            "change one of them"
        )
    if dim < 2 or dim % 2:
        raise InputError(
            f"expected an even width (dim), because a position is encoded in pairs of sine and cosine, found {dim}; "
            "change it"
        )


def _check_sizes(config: SequenceConfig, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"expected {name} of at least 1, found {getattr(config, name)}; change the configuration")
