"""What every value shares, the words of the field, and what goes into and comes out of a model."""

from __future__ import annotations

from typing import Literal

import msgspec

Precision = Literal["float32", "float16", "bfloat16", "float8", "int8", "int8d", "int8w", "int4d", "int4w"]
"""`int8`, `float8` (E4M3): weights and activations with the plan's scales. `int8d`, `int4d`: narrow weights,
activations in int8, scaled as they come. `int8w`, `int4w`: narrow weights, arithmetic in float."""
PRECISIONS: tuple[Precision, ...] = (
    "float32",
    "float16",
    "bfloat16",
    "float8",
    "int8",
    "int8d",
    "int8w",
    "int4d",
    "int4w",
)
Task = Literal[
    "image-classification",
    "image-features",
    "text-classification",
    "text-features",
    "token-classification",
    "translation",
    "summarization",
]
Verdict = Literal["passed", "failed", "inconclusive", "not executed"]
UNTAGGED = -100
"""The tag of a token that is not the first of its word: it is in no metric."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen value with a file form (JSON or TOML); an unknown field is an error, never ignored."""


class TensorSpec(Value, frozen=True, kw_only=True):
    """One input or output. `dtype` is NumPy's name; a dimension is a size, or a name when it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Signature(Value, frozen=True, kw_only=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
