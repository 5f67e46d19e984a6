"""The tensors that every model of sequences takes and gives. Importing this needs no torch."""

from __future__ import annotations

from edgevit.types import TensorSpec

TOKENS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "source_length"))
MASK = TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "source_length"))
"""1 for tokens, 0 for padding, which is on the right."""
TARGET_TOKENS = TensorSpec(name="decoder_input_ids", dtype="int64", shape=("batch", "target_length"))


def target_logits(vocabulary: int) -> TensorSpec:
    """Scores of the token after each one of the target's."""
    return TensorSpec(name="logits", dtype="float32", shape=("batch", "target_length", vocabulary))
