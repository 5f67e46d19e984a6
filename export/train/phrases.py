"""German phrases of dates, times, numbers, money and countries, with their English: the grammar behind the phrases.

Nothing is looked up whole: a phrase is put together from parts whose German follows German word order and cases, and
whose English follows English ones. "um halb vier" is half past three, "dreiundzwanzig" is twenty-three, and what German
says as when, where, English says as where, when.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from german_words import (
    DE,
    EN,
    LENGTHS,
    OTHERS,
    WEIGHTS,
    Part,
    amount,
    before,
    capital,
    country,
    currency,
    grouped,
    magnitude,
    spelled,
    unit,
    words,
)


class Phrase(NamedTuple):
    text: str
    target: str
    kind: str
    tags: tuple[str, ...]
    """One for each word of `text`, parted at spaces."""


def pick(rng: Random, choices: list[Part]) -> Part:
    return rng.choice(choices)


# --------------------------------------------------------------------------------------------------- dates

MONTHS = [(DE.months["format"]["wide"][i], EN.months["format"]["wide"][i]) for i in range(1, 13)]
WEEKDAYS = [(DE.days["format"]["wide"][i], EN.days["format"]["wide"][i]) for i in range(7)]
SEASONS = [("Frühling", "spring"), ("Sommer", "summer"), ("Herbst", "fall"), ("Winter", "winter")]
DAY_PARTS = [("morgen", "morning"), ("vormittag", "morning"), ("nachmittag", "afternoon"), ("abend", "evening")]


def day(rng: Random, ending: str = "n", weekday: bool = False) -> Part:
    """A day of the calendar; `ending` is what German adds to an ordinal in words, `n` but in the nominative."""
    date = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(200 * 365))
    month, weekdays = MONTHS[date.month - 1], WEEKDAYS[date.weekday()]
    year = str(date.year) if rng.random() < 0.5 else ""
    style = rng.random()
    english_year = f", {year}" if year else ""
    end = words(f"month {month[0]}", f"year {year}")
    if style < 0.25:
        german, english = spelled(date.day, "ordinal")
        found = Part(words(f"day {german}{ending}", end), f"the {english} of {month[1]}{english_year.replace(',', '')}")
    elif style < 0.4 and year:
        numeric = date.strftime("%d.%m.%Y") if rng.random() < 0.5 else f"{date.day}.{date.month}.{year}"
        found = Part(words(f"day {numeric}"), f"{month[1]} {date.day}{english_year}")
    else:
        found = Part(words(f"day {date.day}.", end), f"{month[1]} {date.day}{english_year}")
    if not weekday:
        return found
    return Part(words(f"weekday {weekdays[0]},", "article dem", found.words), f"{weekdays[1]}, {found.english}")


def month_of_year(rng: Random) -> Part:
    german, english = rng.choice(MONTHS)
    year = str(rng.randrange(1500, 2100)) if rng.random() < 0.7 else ""
    return Part(words(f"month {german}", f"year {year}"), f"{english} {year}".strip())


def on_a_day(rng: Random) -> Part:
    """A day as it stands in a sentence: am 3. März."""
    date = day(rng, weekday=rng.random() < 0.4)
    return Part(words("preposition am", date.words), f"on {date.english}")


def in_a_year(rng: Random) -> Part:
    style = rng.randrange(5)
    if style == 0:
        german, english = spelled(rng.randrange(1100, 2100), "year")
        return Part(words("preposition im", "other Jahr", f"year {german}"), f"in the year {english}")
    if style == 1:
        year = rng.randrange(2, 3000)
        return Part(words("preposition im", "other Jahr", f"year {year} v. Chr."), f"in the year {year} BC")
    if style == 2:
        century = rng.randrange(2, 22)
        ordinal = spelled(century, "ordinal")
        if rng.random() < 0.5:
            ordinal = (f"{century}.", ordinal_digits(century))
            return Part(
                words("preposition im", f"number {ordinal[0]}", "unit Jahrhundert"), f"in the {ordinal[1]} century"
            )
        return Part(
            words("preposition im", f"number {ordinal[0]}n", "unit Jahrhundert"), f"in the {ordinal[1]} century"
        )
    if style == 3:
        decade = rng.randrange(150, 206) * 10
        return Part(words("preposition in", "article den", f"year {decade}er", "unit Jahren"), f"in the {decade}s")
    quarter, year = rng.randrange(1, 5), rng.randrange(1900, 2100)
    german, english = spelled(quarter, "ordinal")
    of_year = words("unit Quartal", f"year {year}")
    return Part(words("preposition im", f"number {german}n", of_year), f"in the {english} quarter of {year}")


def in_a_month(rng: Random) -> Part:
    style = rng.randrange(4)
    if style == 0:
        season, year = rng.choice(SEASONS), rng.randrange(1900, 2100)
        return Part(words("preposition im", f"month {season[0]}", f"year {year}"), f"in the {season[1]} of {year}")
    month = month_of_year(rng)
    if style == 1:
        german, english = rng.choice(
            (("Anfang", "at the beginning"), ("Mitte", "in the middle"), ("Ende", "at the end"))
        )
        return Part(words(f"other {german}", month.words), f"{english} of {month.english}")
    return Part(words("preposition im", month.words), f"in {month.english}")


def date_span(rng: Random) -> Part:
    style = rng.randrange(7)
    date, other = day(rng), day(rng)
    if style < 4:
        german, english = (("seit", "since"), ("ab", "as of"), ("vor", "before"), ("nach", "after"))[style]
        return Part(words(f"preposition {german}", "article dem", date.words), f"{english} {date.english}")
    if style == 4:
        return Part(words("preposition bis zum", date.words), f"until {date.english}")
    if style == 5:
        span = words("preposition vom", date.words, "preposition bis zum", other.words)
        return Part(span, f"from {date.english} to {other.english}")
    span = words("preposition zwischen", "article dem", date.words, "other und", "article dem", other.words)
    return Part(span, f"between {date.english} and {other.english}")


def date(rng: Random) -> Part:
    style = rng.random()
    if style < 0.3:
        return on_a_day(rng)
    if style < 0.5:
        return date_span(rng)
    if style < 0.62:
        return in_a_month(rng)
    if style < 0.78:
        return in_a_year(rng)
    found = day(rng, ending="")
    if style < 0.9:
        return Part(words("article der", found.words), found.english)
    return month_of_year(rng)


# ------------------------------------------------------------------------------------------------ weekdays


def weekday(rng: Random) -> Part:
    """Days of the week, single, every other one, and with a part of the day: am Dienstagabend."""
    german, english = rng.choice(WEEKDAYS)
    other = rng.choice([names for names in WEEKDAYS if names[0] != german])
    part = rng.choice(DAY_PARTS)
    number = rng.randrange(2, 13)
    count = spelled(number, "ordinal")
    next_month = rng.choice(MONTHS)
    return pick(
        rng,
        [
            Part(words("preposition am", f"weekday {german}"), f"on {english}"),
            Part(words("preposition am", f"weekday {german}{part[0]}"), f"on {english} {part[1]}"),
            Part(words(f"weekday {german.lower()}s"), f"on {english}s"),
            Part(
                words(f"weekday {german.lower()}s", "other und", f"weekday {other[0].lower()}s"),
                f"on {english}s and {other[1]}s",
            ),
            Part(
                words("preposition von", f"weekday {german}", "preposition bis", f"weekday {other[0]}"),
                f"from {english} to {other[1]}",
            ),
            Part(words("other jeden", f"number {count[0]}n", f"weekday {german}"), f"every {count[1]} {english}"),
            Part(words("other nächsten", f"weekday {german}"), f"next {english}"),
            Part(words("other letzten", f"weekday {german}{part[0]}"), f"last {english} {part[1]}"),
            Part(words("preposition seit", f"weekday {german}{part[0]}"), f"since {english} {part[1]}"),
            Part(words("preposition bis", f"weekday {german}"), f"until {english}"),
            Part(words("preposition ab", "other kommendem", f"weekday {german}"), f"from next {english} on"),
            Part(
                words(
                    "preposition am",
                    f"number {count[0]}n",
                    f"weekday {german}",
                    "preposition im",
                    f"month {next_month[0]}",
                ),
                f"on the {count[1]} {english} in {next_month[1]}",
            ),
            Part(
                words(
                    f"weekday {german.lower()}s",
                    "other und",
                    "preposition an",
                    "other jedem",
                    f"number {count[0]}n",
                    f"weekday {other[0]}",
                ),
                f"on {english}s and on every {count[1]} {other[1]}",
            ),
        ],
    )


# --------------------------------------------------------------------------------------------------- times


def clock(rng: Random) -> Part:
    """A time in digits, of 24 hours in German and of 12 in English."""
    hour, minute = rng.randrange(24), rng.choice((0, rng.randrange(60)))
    half = "AM" if hour < 12 else "PM"
    twelve = (hour - 1) % 12 + 1
    if minute == 0:
        return Part(words(f"time {hour} Uhr"), f"{twelve} {half}")
    point = rng.choice((":", "."))
    return Part(words(f"time {hour}{point}{minute:02d} Uhr"), f"{twelve}:{minute:02d} {half}")


def spoken_time(rng: Random) -> Part:
    """A time in words: the German half hour belongs to the hour that comes."""
    hour = rng.randrange(1, 13)
    this, then = spelled(hour), spelled(hour % 12 + 1)
    minutes = rng.choice((5, 10, 20, rng.randrange(2, 29)))
    some, less = spelled(minutes), spelled(30 - minutes)
    exact = ("ein" if hour == 1 else this[0], this[1])
    return pick(
        rng,
        [
            Part(words(f"time {exact[0]} Uhr"), f"{this[1]} o'clock"),
            Part(words(f"time {exact[0]} Uhr {some[0]}"), f"{this[1]} {some[1] if minutes > 9 else 'oh ' + some[1]}"),
            Part(words(f"time halb {then[0]}"), f"half past {this[1]}"),
            Part(words(f"time Viertel nach {this[0]}"), f"a quarter past {this[1]}"),
            Part(words(f"time Viertel vor {then[0]}"), f"a quarter to {then[1]}"),
            Part(words(f"time {some[0]} nach {this[0]}"), f"{some[1]} past {this[1]}"),
            Part(words(f"time {some[0]} vor {then[0]}"), f"{some[1]} to {then[1]}"),
            Part(words(f"time {some[0]} vor halb {then[0]}"), f"{less[1]} past {this[1]}"),
            Part(words(f"time {some[0]} nach halb {then[0]}"), f"{less[1]} to {then[1]}"),
        ],
    )


def at_a_time(rng: Random) -> Part:
    """A time as it stands in a sentence: um halb vier, gegen 9 Uhr morgens."""
    found = spoken_time(rng) if rng.random() < 0.6 else clock(rng)
    german, english = rng.choice((("um", "at"), ("um", "at"), ("gegen", "around")))
    if rng.random() < 0.25 and found.english.endswith(tuple("abcdefghijklmnopqrstuvwxyz")):
        part = rng.choice((("morgens", "in the morning"), ("abends", "in the evening"), ("nachts", "at night")))
        found = Part(words(found.words, f"time {part[0]}"), f"{found.english} {part[1]}")
    return Part(words(f"preposition {german}", found.words), f"{english} {found.english}")


def time_span(rng: Random) -> Part:
    one, two = (clock(rng), clock(rng)) if rng.random() < 0.5 else (spoken_time(rng), spoken_time(rng))
    if rng.random() < 0.5:
        span = words("preposition von", one.words, "preposition bis", two.words)
        return Part(span, f"from {one.english} to {two.english}")
    span = words("preposition zwischen", one.words, "other und", two.words)
    return Part(span, f"between {one.english} and {two.english}")


def time(rng: Random) -> Part:
    style = rng.random()
    if style < 0.35:
        return at_a_time(rng)
    if style < 0.65:
        return time_span(rng)
    if style < 0.75:
        german, english = rng.choice((("ab", "from"), ("bis", "until"), ("erst um", "not before")))
        found = clock(rng) if rng.random() < 0.4 else spoken_time(rng)
        return Part(words(f"preposition {german}", found.words), f"{english} {found.english}")
    return spoken_time(rng) if style < 0.9 else clock(rng)


# ----------------------------------------------------------------------------------------------- durations

SPANS = ("second", "minute", "hour", "day", "week", "month", "year", "decade", "century")
ONE = {"second": "einer", "minute": "einer", "hour": "einer", "day": "einem", "week": "einer", "month": "einem"}
ONE |= {"year": "einem", "decade": "einem", "century": "einem"}


def span_of_time(rng: Random, dative: bool) -> Part:
    """Three days; German has another plural after some prepositions."""
    name = rng.choice(SPANS)
    german, english = (pattern.replace("{0}", "").strip() for pattern in unit(f"duration-{name}"))
    if dative and rng.random() < 0.15:
        single = DE._data["unit_patterns"][f"duration-{name}"]["long"]["one"].replace("{0}", "").strip()
        return Part(words(f"number {ONE[name]}", f"unit {single}"), f"one {name}")
    if dative and german[-1] not in "ns":
        german += "n"
    number = magnitude(rng, 2, 400)
    count = spelled(number) if rng.random() < 0.6 else (str(number), str(number))
    if rng.random() < 0.1:
        count = (spelled(number % 20 + 1)[0] + "einhalb", f"{spelled(number % 20 + 1)[1]} and a half")
        count = (count[0].replace("einseinhalb", "eineinhalb"), count[1])
    return Part(words(f"number {count[0]}", f"unit {german}"), f"{count[1]} {english}")


def duration(rng: Random) -> Part:
    bent, plain, other = span_of_time(rng, True), span_of_time(rng, False), span_of_time(rng, False)
    limit = span_of_time(rng, True)
    return pick(
        rng,
        [
            Part(words("preposition vor", bent.words), f"{bent.english} ago"),
            Part(words("preposition in", bent.words), f"in {bent.english}"),
            Part(words("preposition seit", bent.words), f"for the past {bent.english}"),
            Part(words("preposition nach", bent.words), f"after {bent.english}"),
            Part(words("preposition innerhalb von", bent.words), f"within {bent.english}"),
            Part(words(plain.words, "other lang"), f"for {plain.english}"),
            Part(words("other alle", plain.words), f"every {plain.english}"),
            Part(words("other mehr als", plain.words), f"more than {plain.english}"),
            Part(words(plain.words, "other und", other.words), f"{plain.english} and {other.english}"),
            Part(words(plain.words, "other später"), f"{plain.english} later"),
            Part(
                words("preposition zwischen", bent.words, "other und", limit.words),
                f"between {bent.english} and {limit.english}",
            ),
        ],
    )


# ------------------------------------------------------------------------------------------------- numbers


def ordinal_digits(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def cardinal(rng: Random) -> Part:
    if rng.random() < 0.6:
        texts = spelled(magnitude(rng, 2, rng.choice((99, 9_999, 999_999, 99_999_999))))
    else:
        texts = (
            grouped(magnitude(rng, 2, 99_999_999)) if rng.random() < 0.5 else grouped(round(rng.random() * 100, 2), 2)
        )
    return Part(words(f"number {texts[0]}"), texts[1])


def decimal(rng: Random) -> Part:
    """Spoken digit by digit after the comma, which is a point in English."""
    whole = spelled(magnitude(rng, 2, 999))
    digits = [spelled(rng.randrange(10)) for _ in range(rng.randrange(1, 5))]
    german, english = (" ".join(digit[i] for digit in digits) for i in (0, 1))
    return Part(words(f"number {whole[0]} Komma {german}"), f"{whole[1]} point {english}")


def ordinal(rng: Random) -> Part:
    number = magnitude(rng, 2, 999)
    german, english = spelled(number, "ordinal")
    return pick(
        rng,
        [
            Part(words("preposition zum", f"number {german}n", "unit Mal"), f"for the {english} time"),
            Part(words(f"article {rng.choice(('der', 'die', 'das'))}", f"number {german}"), f"the {english}"),
            Part(words("article die", f"number {number}.", "unit Auflage"), f"the {ordinal_digits(number)} edition"),
            Part(words(f"number {spelled(number)[0]}mal"), f"{spelled(number)[1]} times"),
        ],
    )


def number(rng: Random) -> Part:
    style = rng.random()
    if style < 0.3:
        return cardinal(rng)
    if style < 0.42:
        return decimal(rng)
    if style < 0.6:
        return ordinal(rng)
    one, two = cardinal(rng), cardinal(rng)
    share = amount(rng)
    return pick(
        rng,
        [
            Part(words(share.words, "unit Prozent"), f"{share.english} percent"),
            Part(words("number minus", one.words), f"minus {one.english}"),
            Part(words("other mehr als", one.words), f"more than {one.english}"),
            Part(words("other weniger als", one.words), f"less than {one.english}"),
            Part(words("other genau", one.words), f"exactly {one.english}"),
            Part(words(one.words, "preposition von", two.words), f"{one.english} out of {two.english}"),
            Part(
                words("preposition zwischen", one.words, "other und", two.words),
                f"between {one.english} and {two.english}",
            ),
            Part(words(one.words, "number mal", two.words), f"{one.english} times {two.english}"),
            Part(words(one.words, "number plus", two.words), f"{one.english} plus {two.english}"),
        ],
    )


# ---------------------------------------------------------------------------------------- measures, money


def quantity(rng: Random) -> Part:
    """An amount of some unit: 12,5 Kilogramm."""
    name = rng.choice(rng.choice((LENGTHS, WEIGHTS, OTHERS)))
    if rng.random() < 0.2:
        german, english = unit(name, "short")
        digits = grouped(magnitude(rng, 2, 99_999))
        short = german.replace("{0}", "").strip()
        return Part(words(f"number {digits[0]}", f"unit {short}"), english.replace("{0}", digits[1]))
    german, english = (pattern.replace("{0}", "").strip() for pattern in unit(name))
    count = amount(rng)
    return Part(words(count.words, f"unit {german}"), f"{count.english} {english}")


def price(rng: Random) -> Part:
    german, english = currency(rng)
    if rng.random() < 0.12:
        whole, cents = magnitude(rng, 2, 99), magnitude(rng, 2, 99)
        one, two = spelled(whole), spelled(cents)
        return Part(words(f"number {one[0]}", "currency Euro", f"number {two[0]}"), f"{one[1]} euros {two[1]}")
    count = amount(rng)
    return Part(words(count.words, f"currency {german}"), f"{count.english} {english}")


def around(rng: Random, of: Callable[[Random], Part]) -> Part:
    """A quantity or a price with a word or two before it."""
    one, two = of(rng), of(rng)
    return pick(
        rng,
        [
            one,
            one,
            one,
            Part(words("other etwa", one.words), f"about {one.english}"),
            Part(words("other mehr als", one.words), f"more than {one.english}"),
            Part(words("preposition bis zu", one.words), f"up to {one.english}"),
            Part(words("preposition für", one.words), f"for {one.english}"),
            Part(
                words("preposition von", one.words, "preposition auf", two.words),
                f"from {one.english} to {two.english}",
            ),
            Part(words(one.words, "other oder", two.words), f"{one.english} or {two.english}"),
            Part(words("other fast", one.words), f"almost {one.english}"),
        ],
    )


def measure(rng: Random) -> Part:
    return around(rng, quantity)


def money(rng: Random) -> Part:
    return around(rng, price)


# ----------------------------------------------------------------------------------------------- countries


def place(rng: Random, preposition: str | None = None) -> Part:
    """A country with a preposition of place: in die Schweiz, aus den Niederlanden."""
    german = preposition or rng.choice(("to", "in", "from", "through"))
    where = country(rng)
    return Part(where.after(german), f"{german} {where.english}")


def journey(rng: Random) -> Part:
    one, two = place(rng, "from"), place(rng, "to")
    return Part(words(one.words, two.words), f"{one.english} {two.english}")


def countries(rng: Random) -> Part:
    style = rng.random()
    if style < 0.4:
        return place(rng)
    if style < 0.55:
        return journey(rng)
    one, two, three = country(rng), country(rng), country(rng)
    return pick(
        rng,
        [
            Part(one.alone(), one.english),
            Part(words("other die Hauptstadt", one.after("of")), f"the capital of {one.english}"),
            Part(
                words("preposition zwischen", one.alone("dative"), "other und", two.alone("dative")),
                f"between {one.english} and {two.english}",
            ),
            Part(
                words(before(one.alone(), ","), two.alone(), "other und", three.alone()),
                f"{one.english}, {two.english}, and {three.english}",
            ),
            Part(
                words(
                    "other die Grenze", "preposition zwischen", one.alone("dative"), "other und", two.alone("dative")
                ),
                f"the border between {one.english} and {two.english}",
            ),
            Part(words("preposition mit", one.alone("dative")), f"with {one.english}"),
        ],
    )


# ----------------------------------------------------------------------------------------------- sentences

WHO = [("ich", "I"), ("er", "he"), ("sie", "she"), ("wir", "we"), ("Anna", "Anna"), ("mein Bruder", "my brother")]
GO = {  # present of German verbs for ich, er and wir, infinitive, English -ing and infinitive
    "fliegen": ("fliege", "fliegt", "fliegen", "flying", "fly"),
    "fahren": ("fahre", "fährt", "fahren", "driving", "drive"),
    "reisen": ("reise", "reist", "reisen", "traveling", "travel"),
    "ziehen": ("ziehe", "zieht", "ziehen", "moving", "move"),
}
MODALS = [
    (("muss", "muss", "müssen"), "must"),
    (("kann", "kann", "können"), "can"),
    (("soll", "soll", "sollen"), "should"),
    (("werde", "wird", "werden"), "will"),
]


def person(rng: Random) -> tuple[str, str, int, str]:
    """German and English subject, which of a verb's three German forms it takes, and the English form of *be*."""
    german, english = rng.choice(WHO)
    form = {"ich": 0, "wir": 2}.get(german, 1)
    return german, english, form, ("am", "is", "are")[form]


def when(rng: Random) -> Part:
    style = rng.random()
    if style < 0.35:
        return on_a_day(rng)
    if style < 0.5:
        return weekday_in_sentence(rng)
    if style < 0.65:
        return in_a_month(rng)
    if style < 0.85:
        return at_a_time(rng)
    on, at = weekday_in_sentence(rng), at_a_time(rng)
    return Part(words(on.words, at.words), f"{on.english} {at.english}")


def weekday_in_sentence(rng: Random) -> Part:
    german, english = rng.choice(WEEKDAYS)
    part = rng.choice([("", ""), *DAY_PARTS])
    return Part(words("preposition am", f"weekday {german}{part[0]}"), f"on {english} {part[1]}".strip())


def going(rng: Random) -> Part:
    """Time before place in German, place before time in English; the verb is second, or last after a modal."""
    who, english, form, be = person(rng)
    verb = GO[rng.choice(sorted(GO))]
    time_of, where = when(rng), place(rng, "to") if rng.random() < 0.7 else journey(rng)
    style = rng.randrange(4)
    if style == 0:
        modal = rng.choice(MODALS)
        german = words(f"other {who} {modal[0][form]}", time_of.words, where.words, f"other {verb[2]}")
        return Part(german, f"{english} {modal[1]} {verb[4]} {where.english} {time_of.english}")
    if style == 1:
        german = words(time_of.words, f"other {verb[form]} {who}", where.words)
        return Part(german, f"{time_of.english} {english} {be} {verb[3]} {where.english}")
    german = words(f"other {who} {verb[form]}", time_of.words, where.words)
    return Part(german, f"{english} {be} {verb[3]} {where.english} {time_of.english}")


THINGS = [("das Buch", "the book"), ("die Reise", "the trip"), ("der Wagen", "the car"), ("das Haus", "the house")]
GOODS = [("Kaffee", "coffee"), ("Reis", "rice"), ("Mehl", "flour"), ("Zucker", "sugar"), ("Stahl", "steel")]
EVENTS = [("die Sitzung", "the meeting"), ("das Konzert", "the concert"), ("der Kurs", "the course")]


def paying(rng: Random) -> Part:
    thing, event = rng.choice(THINGS), rng.choice(GOODS)
    sum_, other, time_of, where = price(rng), price(rng), when(rng), place(rng, "from")
    who, english, form, _ = person(rng)
    has = ("habe", "hat", "haben")[form]
    goods = weight_of(rng)
    return pick(
        rng,
        [
            Part(words(f"other {thing[0]} kostet", sum_.words), f"{thing[1]} costs {sum_.english}"),
            Part(
                words(
                    f"other {who} {has}",
                    time_of.words,
                    sum_.words,
                    "preposition für",
                    f"other {thing[0].replace('der ', 'den ')} bezahlt",
                ),
                f"{english} paid {sum_.english} for {thing[1]} {time_of.english}",
            ),
            Part(
                words(
                    "other der Preis ist",
                    time_of.words,
                    "preposition von",
                    sum_.words,
                    "preposition auf",
                    other.words,
                    "other gestiegen",
                ),
                f"the price rose from {sum_.english} to {other.english} {time_of.english}",
            ),
            Part(
                words(
                    f"other {who} {has}",
                    goods.words,
                    f"other {event[0]}",
                    where.words,
                    "preposition für",
                    sum_.words,
                    "other gekauft",
                ),
                f"{english} bought {goods.english} of {event[1]} {where.english} for {sum_.english}",
            ),
        ],
    )


def opening_days(rng: Random) -> Part:
    german, english = rng.choice(WEEKDAYS)
    other = rng.choice([names for names in WEEKDAYS if names[0] != german])
    span = words("preposition von", f"weekday {german}", "preposition bis", f"weekday {other[0]}")
    return pick(
        rng,
        [
            weekday_in_sentence(rng),
            Part(words(f"weekday {german.lower()}s"), f"on {english}s"),
            Part(words("other jeden", f"weekday {german}"), f"every {english}"),
            Part(span, f"from {english} to {other[1]}"),
        ],
    )


def weight_of(rng: Random) -> Part:
    german, english = (pattern.replace("{0}", "").strip() for pattern in unit(rng.choice(WEIGHTS)))
    count = amount(rng)
    return Part(words(count.words, f"unit {german}"), f"{count.english} {english}")


def happening(rng: Random) -> Part:
    event, time_of, where, lasts = rng.choice(EVENTS), when(rng), place(rng, "in"), span_of_time(rng, False)
    hours, days = time_span(rng), opening_days(rng)
    return pick(
        rng,
        [
            Part(
                words(f"other {event[0]} findet", time_of.words, where.words, "other statt"),
                f"{event[1]} takes place {where.english} {time_of.english}",
            ),
            Part(
                words(f"other {event[0]} dauert", lasts.words, "other und beginnt", time_of.words),
                f"{event[1]} lasts {lasts.english} and begins {time_of.english}",
            ),
            Part(
                words("other das Museum ist", days.words, hours.words, "other geöffnet"),
                f"the museum is open {days.english} {hours.english}",
            ),
            Part(
                words("other das Museum", where.words, "other ist", days.words, "other geschlossen"),
                f"the museum {where.english} is closed {days.english}",
            ),
        ],
    )


def clause(rng: Random) -> Part:
    return rng.choice((going, going, paying, happening))(rng)


def sentence(rng: Random) -> Part:
    """One clause, or two or three that a word joins: this is where the long phrases are."""
    clauses = [clause(rng) for _ in range(rng.choices((1, 2, 3), (4, 4, 3))[0])]
    german, english = clauses[0]
    for part in clauses[1:]:
        joint = rng.choice(((" und", " and"), (", aber", ", but"), (", oder", ", or")))
        comma = joint[0].startswith(",")
        german = words(before(german, ",") if comma else german, f"other {joint[0].strip(', ')}", part.words)
        english = f"{english}{joint[1]} {part.english}"
    whole = capital(Part(german, english))
    return Part(before(whole.words, "."), f"{whole.english}.")


# --------------------------------------------------------------------------------------------- all of them

KINDS: dict[str, tuple[Callable[[Random], Part], float]] = {
    "date": (date, 0.12),
    "weekday": (weekday, 0.06),
    "time": (time, 0.09),
    "duration": (duration, 0.06),
    "number": (number, 0.1),
    "measure": (measure, 0.07),
    "currency": (money, 0.09),
    "country": (countries, 0.07),
    "sentence": (sentence, 0.34),
}


def draw(rng: Random) -> Phrase:
    """A phrase of some kind, in the shares that `KINDS` gives."""
    kind = rng.choices(list(KINDS), [share for _, share in KINDS.values()])[0]
    part = KINDS[kind][0](rng)
    text = part.german
    assert text == " ".join(text.split()) and part.english == " ".join(part.english.split()), part
    return Phrase(text, part.english, kind, tuple(tag for _, tag in part.words))
