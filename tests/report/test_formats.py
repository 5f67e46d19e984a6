from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.report import formats
from edgevit.types import Interval


@given(st.text(max_size=600))
def test_clean_text_is_one_printable_line(text: str) -> None:
    shown = formats.clean(text)
    assert len(shown) <= 400
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)


def test_clean_shows_that_something_was_there() -> None:
    assert formats.clean("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"
    assert formats.clean("zoo:digits-vit é 猫") == "zoo:digits-vit é 猫"


def test_a_long_name_loses_its_middle() -> None:
    assert formats.shorten("abcdefghij", 7) == "abc…hij"
    assert formats.shorten("abcdefg", 7) == "abcdefg"


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (1.005, 2, "1.00"),
        (-1.5, 1, "−1.5"),
        (-0.001, 2, "0.00"),
        (12345.6, 0, "12\u202f346"),
        (math.inf, 2, "∞"),
        (-math.inf, 2, "−∞"),
        (math.nan, 2, "–"),
        (None, 2, "–"),
    ],
)
def test_numbers(value: float | None, places: int, text: str) -> None:
    assert formats.number(value, places) == text


@pytest.mark.parametrize(("value", "text"), [(0.14, "+0.14"), (-0.14, "−0.14"), (0.001, "0.00"), (-0.001, "0.00")])
def test_a_difference_carries_its_sign_unless_it_rounds_to_nothing(value: float, text: str) -> None:
    assert formats.signed(value) == text


def test_a_column_has_one_number_of_decimals() -> None:
    assert formats.places_for([0.234, 0.551]) == 3
    assert formats.places_for([1.83, 12.0]) == 2
    assert formats.places_for([43.0, 130.0]) == 1
    assert formats.places_for([430.0]) == 0
    assert formats.places_for([]) == 2


def test_sizes_share_the_unit_of_the_largest() -> None:
    unit = formats.size_unit([812_000, 2_740_000])
    assert unit.name == "MB"
    assert [formats.size(value, unit) for value in (812_000, 2_740_000)] == ["0.81", "2.74"]
    assert formats.size(812_000) == "812 kB"
    assert formats.size(12) == "12 B"
    assert formats.size(16_700_000_000) == "16.7 GB"
    assert formats.size_unit([]).name == "B"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.62499, "0.62"), (0.00071, "0.00071"), (3.96e-13, "4.0e−13"), (12.3, "12"), (1e9, "∞"), (None, "–")],
)
def test_what_spans_many_orders_has_two_digits(value: float | None, text: str) -> None:
    assert formats.small(value) == text


def test_no_error_at_all_is_written_as_unbounded() -> None:
    assert formats.decibels(31.24) == "31.2"
    assert formats.decibels(300.0) == "∞"
    assert formats.decibels(None) == "–"


def test_intervals_moments_and_durations() -> None:
    between = Interval(low=-0.42, high=0.14, level=0.95)
    assert formats.interval(between, signs=True) == "[−0.42, +0.14]"
    assert formats.level(between) == "95 %"
    assert formats.moment("2026-01-05T10:02:11Z") == "2026-01-05 10:02 UTC"
    assert formats.moment("2026-01-05T10:02:11+00:00") == "2026-01-05 10:02 UTC"
    assert formats.moment("yesterday") == "yesterday"
    assert (formats.duration(5), formats.duration(42.04), formats.duration(200)) == ("5.00 s", "42.0 s", "3 min 20 s")
    assert (formats.count(1, "thread"), formats.count(1450, "sample")) == ("1 thread", "1\u202f450 samples")
