"""Dates, times and amounts: kinds of phrases of which nothing is held out."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Literal

from babel.dates import (
    format_date,
    format_interval,
    format_skeleton,
    format_time,
    format_timedelta,
    get_datetime_format,
    get_day_names,
    get_month_names,
)
from babel.numbers import format_compact_decimal, format_decimal, format_percent
from babel.units import format_unit

from seqloom.data.sources.phrases.writer import Draw, Kind, Language, Style, without_homonyms

_EPOCH = datetime.datetime(1950, 1, 1)
_DAYS = 36_524  # to the end of 2049: a hundred years, so that two digits stand for one year only

_UNITS = (
    "length-kilometer length-meter length-centimeter length-millimeter length-mile length-foot length-inch length-yard "
    "mass-kilogram mass-gram mass-milligram mass-pound mass-ounce volume-liter volume-milliliter volume-gallon "
    "volume-cubic-meter area-square-meter area-square-kilometer area-hectare speed-kilometer-per-hour "
    "speed-meter-per-second temperature-celsius temperature-fahrenheit duration-second duration-minute duration-hour "
    "duration-day duration-week duration-month duration-year energy-kilocalorie energy-kilowatt-hour power-watt "
    "power-kilowatt digital-megabyte digital-gigabyte electric-volt frequency-hertz frequency-megahertz graphics-pixel "
    "angle-degree"
)

Length = Literal["full", "long", "medium", "short"]


def measured(codes: Sequence[str], digits: int) -> Draw:
    """Draws amounts of the units or currencies: mostly whole, otherwise with `digits` decimals."""

    def draw(rng: Random, unseen: bool) -> tuple[Decimal, str]:
        amount = Decimal(rng.randint(1, 10 ** rng.randint(1, 4)))
        part = 0 if rng.random() < 0.6 else rng.randrange(10**digits)
        return amount + Decimal(part).scaleb(-digits), rng.choice(codes)

    return draw


def _date(length: Length) -> Style:
    return lambda language, day: format_date(day, length, locale=language.locale)


def _time(length: Length) -> Style:
    return lambda language, moment: format_time(moment, length, locale=language.locale)


def _skeleton(fields: str) -> Style:
    return lambda language, moment: format_skeleton(fields, moment, locale=language.locale)


def _interval(fields: str) -> Style:
    return lambda language, ends: format_interval(ends[0], ends[1], fields, locale=language.locale)


def _date_time(date: Length, time: Length) -> Style:
    """A date and a time by the language's own glue ("{1}, {0}")."""

    def style(language: Language, moment: datetime.datetime) -> str:
        glue = str(get_datetime_format(date, locale=language.locale)).replace("'", "")
        return glue.format(_time(time)(language, moment), _date(date)(language, moment))

    return style


def _clock(language: Language) -> str:
    return "hm" if language.twelve_hours else "Hm"


def _day(rng: Random, unseen: bool) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(days=rng.randrange(_DAYS))


def _moment(rng: Random, unseen: bool) -> datetime.datetime:
    return _day(rng, unseen) + datetime.timedelta(seconds=rng.randrange(86_400))


def _days(least: int, most: int) -> Draw:
    """Draws two days, the second from `least` to `most` days after the first."""

    def draw(rng: Random, unseen: bool) -> tuple[datetime.datetime, datetime.datetime]:
        start = _day(rng, unseen)
        return start, start + datetime.timedelta(days=rng.randint(least, most))

    return draw


def _opening(rng: Random, unseen: bool) -> tuple[datetime.datetime, datetime.datetime]:
    start, end = sorted(rng.sample(range(0, 1440, 5), 2))
    return _EPOCH + datetime.timedelta(minutes=start), _EPOCH + datetime.timedelta(minutes=end)


def dates() -> list[Kind]:
    """Days, months and quarters, spans of them, and the calendar's names."""
    calendar: list[Style] = [
        lambda language, day: get_month_names("wide", "stand-alone", language.locale)[day.month],
        lambda language, day: get_day_names("wide", "stand-alone", language.locale)[day.weekday()],
    ]
    return [
        Kind("date", 8, [_date("full"), _date("long"), _date("medium"), _date("short")], _day, listed=0.1),
        Kind("date", 5, [_skeleton(fields) for fields in ("yMMMEd", "MMMMd", "MMMEd", "yMMMM", "yQQQQ")], _day),
        Kind("interval", 4, [_interval(fields) for fields in ("yMMMd", "yMMMEd", "MMMd", "yMd")], _days(1, 90)),
        Kind("interval", 1, [_interval("yMMMM")], _days(32, 900)),
        Kind("calendar", 2, calendar, _day, listed=0.9),
    ]


def _span(rng: Random, unseen: bool) -> datetime.timedelta:
    seconds = ((1, 50), (60, 50), (3600, 20), (86_400, 6), (604_800, 3), (2_592_000, 10), (31_536_000, 99))
    unit, most = rng.choice(seconds)
    return datetime.timedelta(seconds=unit * rng.randint(1, most) * rng.choice((-1, 1)))


def _duration(length: Literal["long", "short"], direction: bool) -> Style:
    return lambda language, span: format_timedelta(span, format=length, add_direction=direction, locale=language.locale)


def times() -> list[Kind]:
    """Times of day, alone, with a date or a weekday, and as intervals; durations, and how long ago."""
    lengths: list[tuple[Length, Length]]  # of the date, and of the time
    lengths = [("full", "short"), ("long", "short"), ("medium", "medium"), ("short", "short")]
    spans = [_duration("long", False), _duration("short", False), _duration("long", True)]
    return [
        Kind("time", 4, [_time("short"), _time("medium")], _moment, listed=0.3),
        Kind("time", 1, [lambda side, at: _skeleton(f"E{_clock(side)}")(side, at)], _moment),
        Kind("interval", 2, [lambda side, ends: _interval(_clock(side))(side, ends)], _opening),
        Kind("date and time", 6, [_date_time(date, time) for date, time in lengths], _moment),
        Kind("duration", 5, spans, _span, listed=0.4),
    ]


def _decimal(rng: Random, unseen: bool) -> Decimal:
    return Decimal(rng.randrange(10 ** rng.randint(3, 7))).scaleb(-rng.choice((0, 1, 2)))


def _rounded(rng: Random, unseen: bool) -> int:
    return rng.randint(1, 99) * int(10 ** rng.randint(3, 9))


def _percent(rng: Random, unseen: bool) -> Decimal:
    return Decimal(rng.randint(1, 1000) if rng.random() < 0.4 else 10 * rng.randint(1, 100)).scaleb(-3)


def _unit(length: Literal["long", "short"]) -> Style:
    return lambda language, measure: format_unit(measure[0], measure[1], length=length, locale=language.locale)


def amounts(source: Language, target: Language) -> list[Kind]:
    """Numbers in digits: plain, rounded ("1.2 million"), as a percentage, with a unit."""
    styles = [_unit("long"), _unit("short")]
    common = [u for u in _UNITS.split() if all(u in side.locale.unit_display_names for side in (source, target))]
    units = [unit for _, unit in without_homonyms([(5, unit) for unit in common], styles, source)]
    digits: list[Style] = [lambda side, n: format_decimal(n, locale=side.locale)]
    rounded: list[Style] = [
        lambda side, n: format_compact_decimal(n, format_type="long", locale=side.locale, fraction_digits=1)
    ]
    percent: list[Style] = [lambda side, n: format_percent(n, locale=side.locale, decimal_quantization=False)]
    return [
        Kind("decimal", 4, digits, _decimal),
        Kind("decimal", 2, rounded, _rounded),
        Kind("percent", 3, percent, _percent, listed=0.4),
        Kind("unit", 9, styles if units else (), measured(units, 1), listed=0.15),
    ]
