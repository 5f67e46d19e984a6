"""Tracing: a batch of any size or a fixed one, and one line about a model that does not trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgevit.errors import CaptureError
from edgevit.graph.capture import CaptureOptions, capture
from edgevit.graph.examples import example_input
from edgevit.types import TensorSpec


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Baked(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1)


def test_the_batch_is_dynamic_unless_it_is_fixed(separate_model):
    tokens = torch.zeros(3, 5, 16)
    assert capture(separate_model).module()(tokens).shape == (3, 5, 16)
    fixed = capture(separate_model, CaptureOptions(batch=2)).module()
    assert fixed(tokens[:2]).shape == (2, 5, 16)
    with pytest.raises(AssertionError, match="== 2"):
        fixed(tokens)


def test_a_branch_on_values_is_refused_with_file_and_line(wrap, capfd):
    with pytest.raises(CaptureError) as caught:
        capture(wrap(Branch(), 4))
    message = str(caught.value)
    line = Branch.forward.__code__.co_firstlineno + 1
    assert f"{__file__}:{line} (if x.sum() > 0:)" in message
    assert "wrapped" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", ""), "torch prints the half-finished graph otherwise"


def test_a_baked_batch_is_refused_with_the_reason(wrap):
    with pytest.raises(CaptureError, match="specialized it to be a constant") as caught:
        capture(wrap(Baked(), 4))
    assert "\n" not in str(caught.value)


def test_examples_are_seeded_and_of_the_signatures_type():
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3, "tokens"))
    first, second = example_input(spec, 5), example_input(spec, 5)
    assert first.shape == (5, 3, 5)
    assert first.std() > 0.5
    np.testing.assert_array_equal(first, second)
    assert example_input(TensorSpec(name="ids", dtype="int64", shape=("batch",)), 2).dtype == torch.int64
