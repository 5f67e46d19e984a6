"""Optimization profiles from a signature and an option."""

from __future__ import annotations

import pytest

from edgevit.errors import InputError
from edgevit.targets.nvidia.profiles import Range, parse_profile, profile_of
from edgevit.types import Signature, TensorSpec


def signature(*shapes: tuple[int | str, ...]) -> Signature:
    inputs = tuple(TensorSpec(name=f"x{index}", dtype="float32", shape=shape) for index, shape in enumerate(shapes))
    return Signature(inputs=inputs, outputs=(TensorSpec(name="y", dtype="float32", shape=("batch",)),))


IMAGES = signature(("batch", 3, 224, 224))
TEXT = signature(("batch", "length"), ("batch", "length"))


def test_a_batch_has_a_default() -> None:
    profile = parse_profile("", IMAGES)
    assert profile.shapes(("batch", 3, 224, 224)) == ((1, 3, 224, 224), (1, 3, 224, 224), (8, 3, 224, 224))
    assert profile.text == "batch:1:1:8"


def test_sizes_are_taken_as_given() -> None:
    profile = parse_profile("batch:1:4:16 length:8:128:512", TEXT)
    assert profile.dimensions == {"batch": Range(min=1, opt=4, max=16), "length": Range(min=8, opt=128, max=512)}
    assert profile.shapes(("batch", "length")) == ((1, 8), (4, 128), (16, 512))
    assert parse_profile(profile.text, TEXT) == profile


def test_a_static_model_has_none() -> None:
    profile = parse_profile("", signature((4, 3, 32, 32)))
    assert profile.text == ""
    assert profile.shapes((4, 3, 32, 32)) == ((4, 3, 32, 32),) * 3


def test_a_length_without_a_profile_is_refused_with_an_example() -> None:
    with pytest.raises(InputError, match=r"'length', found none; add for example profile=length:1:128:512"):
        parse_profile("batch:1:1:8", TEXT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch:8:4:16", "min 8, opt 4, max 16"),
        ("batch:1:32:16", "1 <= min <= opt <= max"),
        ("batch:0:1:1", "1 <= min"),
        ("batch:1:8", "batch:MIN:OPT:MAX"),
        ("batch", "batch:MIN:OPT:MAX"),
        ("batch:a:b:c", "batch:MIN:OPT:MAX"),
        ("past_length:0:0:0", "0 <= min <= opt <= max"),
        ("length:1:2:3", r"the dynamic dimensions \(batch\), found 'length'"),
    ],
)
def test_bad_profiles(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_profile(text, IMAGES)


ENCODER = signature(("batch", "source"), ("batch", "source"))
DECODER = signature(("batch", "target"), ("batch", 4, "past_length", 8), ("batch", "source"))
BOTH = "source:1:16:48,target:1:1:48,past_length:0:8:47"


def test_an_encoder_and_a_decoder_share_one_profile() -> None:
    first, second = parse_profile(BOTH, ENCODER, (DECODER,)), parse_profile(BOTH, DECODER, (ENCODER,))
    assert first == second
    assert first.text == second.text == "batch:1:1:8,past_length:0:8:47,source:1:16:48,target:1:1:48"
    assert first.shapes(("batch", "source")) == ((1, 1), (1, 16), (8, 48))
    assert second.shapes(("batch", 4, "past_length", 8)) == ((1, 4, 0, 8), (1, 4, 8, 8), (8, 4, 47, 8))
    assert tuple(profile_of(first.text, ENCODER).dimensions) == ("batch", "source")


def test_the_other_part_must_be_described_too() -> None:
    """Or its lack would be found when the first part has been compiled."""
    missing = (
        "dimensions 'target', 'past_length', found none; add for example profile=target:1:128:512,past_length:0:16:511"
    )
    with pytest.raises(InputError, match=missing):
        parse_profile("source:1:16:48", ENCODER, (DECODER,))
    with pytest.raises(InputError, match="found 'width'"):
        parse_profile(f"{BOTH},width:1:2:3", ENCODER, (DECODER,))
