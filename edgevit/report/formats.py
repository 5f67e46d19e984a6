"""How numbers and names are written, in HTML, Markdown and at the terminal alike."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

import msgspec

from edgevit.types import Interval

NOTHING = "–"
MINUS = "\u2212"
NO_ERROR_DB = 300.0
NOT_FINITE_SCORE = 1e9
"""As the comparison writes the score of a sample whose output is NaN or infinite."""
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def clean(text: str, limit: int = 400) -> str:
    """One printable line: names come from strangers, so controls (escape sequences, bidi overrides) become U+FFFD."""
    shown = "".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char for char in text)
    return shorten(shown, limit)


def shorten(text: str, limit: int) -> str:
    """The same text in at most `limit` characters, with the middle left out."""
    if len(text) <= limit:
        return text
    keep = limit - 1
    return text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]


def number(value: float | None, places: int = 2) -> str:
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    text = f"{value:,.{places}f}".replace(",", "\u202f")
    if float(f"{value:.{places}f}") == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, places: int = 2) -> str:
    text = number(value, places)
    rounds_to_zero = value is not None and math.isfinite(value) and float(f"{value:.{places}f}") == 0
    return text if value is None or math.isnan(value) or value < 0 or rounds_to_zero else "+" + text


def places_for(values: Iterable[float]) -> int:
    """Decimals that give the smallest of a column three digits, so that the whole column lines up."""
    smallest = min((abs(value) for value in values if value and math.isfinite(value)), default=1.0)
    return max(0, min(3, 2 - math.floor(math.log10(smallest))))


def interval(value: Interval, places: int = 2, signs: bool = False) -> str:
    write = signed if signs else number
    return f"[{write(value.low, places)}, {write(value.high, places)}]"


def level(value: Interval) -> str:
    return f"{100 * value.level:g} %"


class SizeUnit(msgspec.Struct, frozen=True):
    """A decimal unit of bytes for a whole column."""

    name: str
    scale: float
    places: int


def size_unit(sizes: Iterable[float]) -> SizeUnit:
    """The unit that writes the largest of a column with one to three digits before the point."""
    given = list(sizes)
    largest = max(given, default=0.0)
    name, scale = next(((name, scale) for name, scale in _UNITS if largest >= scale), _UNITS[-1])
    return SizeUnit(name, scale, 0 if scale == 1 else min(2, places_for(value / scale for value in given)))


def size(value: float, unit: SizeUnit | None = None) -> str:
    """Bytes with their unit, or without it when the column names it."""
    chosen = unit or size_unit([value])
    text = number(value / chosen.scale, chosen.places)
    return text if unit else f"{text} {chosen.name}"


def decibels(value: float | None) -> str:
    """An SQNR; without any error it has no bound, which the comparison writes as 300 dB."""
    return number(math.inf if value is not None and value >= NO_ERROR_DB else value, 1)


def small(value: float | None) -> str:
    """A positive quantity that spans many orders (KL divergence, p-values, errors): two digits."""
    if value is None or math.isnan(value):
        return NOTHING
    if value == 0 or math.isinf(value) or value >= NOT_FINITE_SCORE:
        return number(0 if value == 0 else math.inf, 0)
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", MINUS)
    return number(value, max(0, 1 - exponent))


def count(number_of: int, singular: str, plural: str = "") -> str:
    return f"{number_of:,} {singular if number_of == 1 else plural or singular + 's'}".replace(",", "\u202f")


def moment(utc: str) -> str:
    """An ISO 8601 time in UTC as people read it, to the minute."""
    return clean(f"{utc[:10]} {utc[11:16]} UTC" if utc[10:11] == "T" and utc.endswith(("Z", "+00:00")) else utc, 40)


def duration(seconds: float) -> str:
    if seconds >= 120:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{number(seconds, 1 if seconds >= 10 else 2)} s"
