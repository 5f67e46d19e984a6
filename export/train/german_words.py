"""Words and numbers in German and in English, from Babel's CLDR data and num2words.

A `Part` is German words with the tag of each, and the same in English. What CLDR does not know stands in tables here:
which countries have an article, and how German bends after a preposition.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import NamedTuple

from babel import Locale
from babel.core import get_global
from babel.numbers import format_decimal
from num2words import num2words

DE, EN = Locale("de"), Locale("en")

TAGS = (
    "other",
    "preposition",
    "article",
    "weekday",
    "month",
    "day",
    "year",
    "time",
    "number",
    "unit",
    "currency",
    "country",
)
Words = tuple[tuple[str, str], ...]


class Part(NamedTuple):
    words: Words
    """Of German, each with its tag."""
    english: str

    @property
    def german(self) -> str:
        return " ".join(word for word, _ in self.words)


def words(*groups: str | Words) -> Words:
    """Words with tags: of a text the first word is the tag of the others, `"month März"`."""
    found: list[tuple[str, str]] = []
    for group in groups:
        if isinstance(group, str):
            tag, *texts = group.split()
            assert tag in TAGS, tag
            found += [(text, tag) for text in texts]
        else:
            found += group
    return tuple(found)


def before(german: Words, sign: str) -> Words:
    """With a comma or a full stop after the last word."""
    *rest, (word, tag) = german
    return (*rest, (word + sign, tag))


def capital(part: Part) -> Part:
    (word, tag), *rest = part.words
    return Part(((word[:1].upper() + word[1:], tag), *rest), part.english[:1].upper() + part.english[1:])


# ------------------------------------------------------------------------------------------------- numbers


def spelled(number: int, form: str = "cardinal") -> tuple[str, str]:
    """German and English words of a number; `form` is cardinal, ordinal or year."""
    return num2words(number, lang="de", to=form), num2words(number, lang="en", to=form)


def grouped(number: float, places: int = 0) -> tuple[str, str]:
    """Digits as CLDR writes them: 1.234,5 and 1,234.5."""
    pattern = "#,##0" + ("." + "0" * places if places else "")
    return format_decimal(number, pattern, locale=DE), format_decimal(number, pattern, locale=EN)


def magnitude(rng: Random, low: int, high: int) -> int:
    """A whole number whose number of digits is uniform, roughly; never one that ends in 01, which bends in German."""
    while True:
        number = min(high, int(low * (high / low) ** rng.random()))
        if number % 100 != 1:
            return number


def amount(rng: Random) -> Part:
    """How many of something, never one: in digits, with a fraction, spelled, or in millions."""
    style = rng.random()
    if style < 0.3:
        texts = grouped(magnitude(rng, 2, 99_999))
    elif style < 0.5:
        places = rng.choice((1, 2))
        texts = grouped(round(magnitude(rng, 2, 9_999) + rng.randrange(1, 10**places) / 10**places, places), places)
    elif style < 0.75:
        texts = spelled(magnitude(rng, 2, 120))
    elif style < 0.92:
        texts = spelled(magnitude(rng, 100, 99_999))
    else:
        digits = grouped(magnitude(rng, 2, 900)) if rng.random() < 0.5 else spelled(magnitude(rng, 2, 90))
        many = rng.choice((("Millionen", "million"), ("Milliarden", "billion")))
        texts = (f"{digits[0]} {many[0]}", f"{digits[1]} {many[1]}")
    return Part(words(f"number {texts[0]}"), texts[1])


# --------------------------------------------------------------------------------------------------- units

LENGTHS = ("length-kilometer", "length-meter", "length-centimeter", "length-millimeter", "length-mile")
WEIGHTS = ("mass-kilogram", "mass-gram", "mass-milligram", "mass-tonne", "mass-pound", "mass-ounce")
OTHERS = (
    "area-hectare",
    "area-square-kilometer",
    "area-square-meter",
    "digital-gigabyte",
    "digital-megabyte",
    "electric-volt",
    "energy-kilowatt-hour",
    "energy-kilocalorie",
    "frequency-megahertz",
    "power-kilowatt",
    "power-watt",
    "power-horsepower",
    "speed-kilometer-per-hour",
    "speed-meter-per-second",
    "temperature-celsius",
    "temperature-fahrenheit",
    "volume-cubic-meter",
    "volume-liter",
    "volume-milliliter",
)


@cache
def unit(name: str, form: str = "long") -> tuple[str, str]:
    """CLDR's plural pattern of a unit in both languages, `{0} Kilometer` and `{0} kilometers`."""
    return tuple(  # type: ignore[return-value]
        " ".join(locale._data["unit_patterns"][name][form]["other"].split()) for locale in (DE, EN)
    )


@cache
def currencies() -> tuple[tuple[str, str], ...]:
    """Plural names of the currencies that some country pays with today and that both languages name."""
    today = {
        code
        for entries in get_global("territory_currencies").values()
        for code, _, end, tender in entries
        if end is None and tender
    }
    names = []
    for code in sorted(today):
        if DE.currencies.get(code) and code in EN.currencies:
            german = DE._data["currency_names_plural"].get(code, {}).get("other") or DE.currencies[code]
            english = EN._data["currency_names_plural"].get(code, {}).get("other") or EN.currencies[code]
            if "(" not in german:
                names.append((german, english))
    return tuple(names)


COMMON_CURRENCIES = (("Euro", "euros"), ("US-Dollar", "US dollars"), ("Schweizer Franken", "Swiss francs"))


def currency(rng: Random) -> tuple[str, str]:
    return rng.choice(COMMON_CURRENCIES) if rng.random() < 0.35 else rng.choice(currencies())


# ----------------------------------------------------------------------------------------------- countries

FEMININE = {"CH", "TR", "SK", "UA", "MN", "DO", "CF", "MD", "EH", "AQ", "VA", "IM", "CX", "NF"}
MASCULINE = {"IR", "IQ", "LB", "SD", "SS", "TD", "NE", "YE", "XK"}
NEUTER = {"GB"}
PLURAL = {"NL", "US", "AE", "PH", "BS", "MV", "SC", "KM", "FO", "SB", "BQ", "PS", "MP"}
ENGLISH_THE = {"NL", "US", "AE", "PH", "BS", "MV", "KM", "DO", "CF", "GB", "PS", "BQ"}
MAINLAND = {"NL", "US", "AE", "BQ", "PS"}
ONE_ISLAND = {"IM", "CX", "NF"}
ADJECTIVES = {"Vereinigte", "Arabische", "Karibische", "Nördliche", "Palästinensische", "Britische", "Amerikanische"}
ADJECTIVES |= {"Zentralafrikanische", "Dominikanische"}
LEFT_OUT = {"AC", "CP", "DG", "EA", "EU", "EZ", "GS", "HK", "HM", "IC", "IO", "MO", "QO", "TA", "TF", "UM", "UN"}
LEFT_OUT |= {"XA", "XB", "ZZ", "BV"}


ARTICLES = {  # nominative, accusative, dative
    "feminine": ("die", "die", "der"),
    "masculine": ("der", "den", "dem"),
    "neuter": ("das", "das", "dem"),
    "plural": ("die", "die", "den"),
}
PREPOSITIONS = {  # of place, with its case: for a name alone, for one with an article, for islands with an article
    "to": ("nach", "in", "auf", "accusative"),
    "in": ("in", "in", "auf", "dative"),
    "from": ("aus", "aus", "von", "dative"),
    "of": ("von", "von", "von", "dative"),
    "through": ("durch", "durch", "über", "accusative"),
}
CONTRACTED = {"in": "im", "of": "vom"}


class Country(NamedTuple):
    """A country as German needs it after a preposition."""

    gender: str
    """`none` for those without an article."""
    islands: bool
    """One is *on* them, in German."""
    name: str
    """Nominative and accusative, as it stands after its article."""
    dative: str
    english: str

    def after(self, place: str) -> Words:
        """Preposition, article and name; `place` is one of `PREPOSITIONS`."""
        alone, inside, upon, case = PREPOSITIONS[place]
        if self.gender == "none":
            return words(f"preposition {alone}", f"country {self.name}")
        if place in CONTRACTED and not self.islands and self.gender in ("masculine", "neuter"):
            return words(f"preposition {CONTRACTED[place]}", f"country {self.dative}")
        return words(f"preposition {upon if self.islands else inside}", self.alone(case))

    def alone(self, case: str = "nominative") -> Words:
        """With its article, if it has one."""
        if self.gender == "none":
            return words(f"country {self.name}")
        article = ARTICLES[self.gender][("nominative", "accusative", "dative").index(case)]
        return words(f"article {article}", f"country {self.dative if case == 'dative' else self.name}")


@cache
def countries() -> tuple[Country, ...]:
    """Every territory of CLDR with two letters, but for a few that are no places to go to."""
    codes = sorted(code for code in DE.territories if len(code) == 2 and code.isalpha() and code not in LEFT_OUT)
    return tuple(_country(code, DE.territories[code], EN.territories[code]) for code in codes)


def _country(code: str, german: str, english: str) -> Country:
    if code in ENGLISH_THE or english.endswith("Islands"):
        english = f"the {english}"
    several = code in PLURAL or german.endswith(("inseln", "Inseln"))
    gender = "plural" if several else "none"
    for name, codes in (("feminine", FEMININE), ("masculine", MASCULINE), ("neuter", NEUTER)):
        gender = name if code in codes else gender
    islands = (several and code not in MAINLAND) or code in ONE_ISLAND
    german = german.replace("Vereinigtes", "Vereinigte")
    bent = " ".join(f"{word}n" if word in ADJECTIVES else word for word in german.split())
    dative = bent + "n" if gender == "plural" and bent[-1] not in "ns" else bent
    return Country(gender, islands, bent if gender == "plural" else german, dative, english)


def country(rng: Random) -> Country:
    return rng.choice(countries())
