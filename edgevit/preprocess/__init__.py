"""Images and texts to tensors: the one implementation of each, used by calibration, parity and the runtime."""

from edgevit.preprocess.images import (
    FORMATS,
    MAX_PIXELS,
    Geometry,
    Source,
    check_preprocess,
    geometry,
    image_tensor,
    images_batch,
    load_image,
    raw_pixels,
)
from edgevit.preprocess.texts import Tokens, check_text_preprocess, padded, texts_batch, tokenize
from edgevit.preprocess.tokenizer import Tokenizer, open_tokenizer, vocabulary_size

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Geometry",
    "Source",
    "Tokenizer",
    "Tokens",
    "check_preprocess",
    "check_text_preprocess",
    "geometry",
    "image_tensor",
    "images_batch",
    "load_image",
    "open_tokenizer",
    "padded",
    "raw_pixels",
    "texts_batch",
    "tokenize",
    "vocabulary_size",
]
