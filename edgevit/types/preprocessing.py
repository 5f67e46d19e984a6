"""How images and texts become tensors, and tokens become text."""

from __future__ import annotations

from typing import Literal

from edgevit.types.signature import Value

PIXELS = "pixels"
"""The input of a build that holds the preprocessing: uint8 (batch, height, width, 3), RGB, images of any one size."""

PREPROCESSING = "preprocess"
"""What the names of its nodes begin with, and the folder in which such a build has it by itself."""


class ImagePreprocess(Value, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """How an image becomes one row of the model's input, shape (channels, height, width), float32.

    The steps, in this order: EXIF orientation; conversion to `mode`; resize (see `resize`); centre crop to `size`;
    x / 255; (x - mean) / std. `edgevit.preprocess` is the one implementation.
    """

    input: str = "pixel_values"
    mode: Literal["RGB", "BGR", "L"] = "RGB"
    """The tensor's channels, in order; `mean` and `std` are in the same order."""
    size: tuple[int, int]
    """(height, width) of the tensor, pixels."""
    resize: Literal["shortest", "exact"] = "shortest"
    """`shortest`: the shorter side becomes size / crop_fraction, aspect kept; `exact`: both sides, aspect ignored."""
    crop_fraction: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TextPreprocess(Value, frozen=True, kw_only=True, tag="text", tag_field="kind"):
    """How texts become a batch: int64 token ids and their mask, both (texts, longest), padded on the right.

    The tokenizer's own post-processor adds the special tokens (the end token). The mask is 1 for tokens, 0 for padding.
    """

    input: str = "input_ids"
    mask: str = "attention_mask"
    tokenizer: str = "tokenizer.json"
    """A file of the `tokenizers` library: beside a checkpoint's weights, at the root of a bundle."""
    tokenizer_sha256: str = ""
    """So that statistics and references made with another vocabulary are not taken for this one's."""
    max_length: int
    """Tokens of one text at most, special tokens included."""
    truncate: bool = False
    """Cut longer texts to `max_length`; otherwise they are an error that says how long they are."""
    pad_token_id: int = 0


Preprocess = ImagePreprocess | TextPreprocess


class Generation(Value, frozen=True, kw_only=True):
    """How a decoder is run in a loop, and how its tokens become text."""

    start_token_id: int
    end_token_id: int
    pad_token_id: int
    max_length: int
    """Tokens generated for one source at most, the end token included."""
    beams: int = 1
    """1 for greedy search."""
    length_penalty: float = 1.0
    """A finished hypothesis scores its sum of log-probabilities / length ** length_penalty, as in Hugging Face."""
    early_stopping: bool = True
    """A source is done when as many hypotheses as beams have ended, not when no other could score better."""
    tokenizer: str = "tokenizer.json"
    """The target's vocabulary; may be the source's own file."""
