"""Which cards a build is for, and what they cannot execute."""

from __future__ import annotations

import pytest

from edgevit.errors import InputError
from edgevit.targets.nvidia.architectures import (
    RTX,
    check_card,
    check_precision,
    default_architectures,
    parse_architectures,
)


def test_a_list_is_put_in_one_order_without_repeats() -> None:
    assert parse_architectures("sm89, SM86,sm89") == ("sm86", "sm89")
    assert parse_architectures(",".join(RTX)) == tuple(RTX)


@pytest.mark.parametrize("text", ["sm90", "sm86,ampere", "", " , "])
def test_an_unknown_architecture_lists_the_choices(text: str) -> None:
    with pytest.raises(InputError, match=r"choose from: sm75 .*sm121") as error:
        parse_architectures(text)
    assert "\n" not in str(error.value)


def test_turing_has_no_float32_and_no_bfloat16_products() -> None:
    for floats in ("float32", "bfloat16"):
        with pytest.raises(InputError, match="sm75"):
            check_precision("float32", floats, ("sm75", "sm86"))
    with pytest.raises(InputError, match="float_layers=float16"):
        check_precision("int8", "float32", ("sm75",))
    check_precision("int8", "float16", ("sm75",))
    check_precision("float32", "float32", ("sm86",))


def test_e4m3_needs_ada_and_four_bits_ampere() -> None:
    assert default_architectures("float8") == ("sm89", "sm120")
    assert default_architectures("int4w") == default_architectures("int8") == ("sm80", "sm86", "sm89", "sm120")
    check_precision("float8", "float16", ("sm89", "sm121"))
    with pytest.raises(InputError, match="expected cards of sm89 or newer for float8, found sm75"):
        check_precision("float8", "float16", ("sm75", "sm89"))
    with pytest.raises(InputError, match="sm80 or newer for int4w"):
        check_precision("int4w", "float16", ("sm75",))
    check_card("float8", ("sm90",))  # Hopper: the full TensorRT builds for it
    with pytest.raises(InputError, match="found sm87"):
        check_card("float8", ("sm87",))  # Jetson Orin
