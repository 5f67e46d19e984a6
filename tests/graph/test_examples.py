"""Inputs to trace and check with: valid ids, ragged masks, and sizes at their edges."""

from __future__ import annotations

import torch
from sequences import make_part

from edgevit.graph.examples import USUAL, distinct_sizes, example_inputs, named_lengths, size_cases
from edgevit.types import Signature, TensorSpec


def test_ids_are_in_every_vocabulary_and_masks_are_ragged():
    part = make_part("transformer.")
    sizes = {"batch": 50, "source_length": 9, "target_length": 4}
    ids, mask, target = example_inputs(part, sizes)
    assert ids.shape == (50, 9)
    assert target.shape == (50, 4)
    assert 0 <= int(ids.min()) < int(ids.max()) < 30
    assert mask.dtype == torch.int64
    assert (mask[:, 0] == 1).all(), "at least one token"
    assert (mask.diff(dim=1) <= 0).all(), "padding on the right"
    assert mask[-1].all()
    assert not mask.all()
    for one, other in zip((ids, mask, target), example_inputs(part, sizes), strict=True):
        assert torch.equal(one, other)


def test_sizes_to_trace_with_are_all_different_and_never_0_or_1():
    signature = make_part("transformer.decoder").signature
    sizes = distinct_sizes(signature, 2)
    assert set(sizes) == {"batch", "target_length", "source_length", "past_length"}
    assert len(set(sizes.values())) == 4
    assert min(sizes.values()) == 2


def test_cases_reach_every_edge_and_stay_within_the_longest():
    signature = make_part("transformer.decoder").signature
    cases = list(size_cases(signature, [1, 2, 3, 8], {"target_length": 10, "source_length": 12}))
    seen = {name: {case[name] for case in cases} for name in cases[0]}
    assert seen["batch"] == {1, 2, 3, 8}
    assert seen["past_length"] == {0, 1, 5, 9}
    assert {"batch": 1, "past_length": 9, "target_length": 1, "source_length": 12} in cases, "a step after the longest"
    assert {"batch": 1, "past_length": 0, "target_length": 10, "source_length": 12} in cases, "all at once"
    assert seen["source_length"] == {1, 4, 12}
    assert {1, 4, 10} <= seen["target_length"]
    assert max(case["past_length"] + case["target_length"] for case in cases) == 10


def test_the_first_batch_alone_meets_lengths_beyond_the_usual():
    signature = make_part("transformer.decoder").signature
    cases = list(size_cases(signature, [1, 8], {"target_length": 512, "source_length": 400}))
    assert {
        (case["past_length"], case["target_length"], case["source_length"]) for case in cases if case["batch"] == 1
    } >= {
        (0, 512, 400),
        (511, 1, 400),
    }
    assert max(case["target_length"] for case in cases if case["batch"] == 8) == USUAL
    assert max(case["source_length"] for case in cases if case["batch"] == 8) == USUAL


def test_an_image_has_its_batch_and_nothing_else():
    pixels = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 32, 32))
    signature = Signature(inputs=(pixels,), outputs=())
    assert named_lengths(signature) == ()
    assert list(size_cases(signature, [1, 2], {})) == [{"batch": 1}, {"batch": 2}]
