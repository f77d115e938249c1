"""The kinds of phrases of which a part is held out from training: names of the world, and numbers in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from babel import Locale
from babel.languages import get_official_languages
from babel.localedata import locale_identifiers
from babel.numbers import format_currency
from unicode_rbnf import RbnfEngine

from seqloom.data.sources.phrases.amounts import amounts, dates, measured, times
from seqloom.data.sources.phrases.writer import Draw, Kind, Language, Style, express, usable, without_homonyms

# The codes of the most common currencies. A hundred others would only be more names to memorize.
_CURRENCIES = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW MAD MXN MYR NGN "
    "NOK NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TND TRY UAH USD UYU VND ZAR"
)

# One form per number, so that translation is a function: the bare form where there is one.
_ORDINALS = ("spellout-ordinal", "spellout-ordinal-masculine", "spellout-ordinal-common", "spellout-ordinal-native")

_Thing = tuple[Style, Any]  # how a language names it, and its code


@dataclass(frozen=True)
class HeldOut:
    """What never occurs in training: names, by their codes, and ranges of numbers in words.

    Args:
        territories: codes such as "CH".
        currencies: codes such as "CHF".
        decades: 198 stands for 1980 to 1989; such ranges of ten lie below 2100.
        thousands: 17 stands for 17,000 to 17,999; such ranges lie from 3000 on.
    """

    territories: Sequence[str]
    currencies: Sequence[str]
    decades: Sequence[int]
    thousands: Sequence[int]

    def number(self, number: int) -> bool:
        """Whether the number is in one of the ranges."""
        return number // 10 in self.decades if number < 2100 else number // 1000 in self.thousands


def languages() -> list[str]:
    """The languages that both Babel and unicode-rbnf know, by their CLDR names ("de", "pt_PT")."""
    return sorted(set(RbnfEngine.get_supported_languages()) & set(locale_identifiers()))


def territory_name(language: Language, code: str) -> str:
    """The language's name for a territory ("Switzerland" for "CH"); "" if it has none."""
    return str(language.locale.territories.get(code, ""))


def currency_name(language: Language, code: str) -> str:
    """The language's name for a currency ("Swiss Franc" for "CHF"); "" if it has none."""
    return str(language.locale.currencies.get(code, ""))


def _language_name(language: Language, locale: Locale) -> str:
    """The name of a language, or of its variety in a territory: "German", "German (Switzerland)"."""
    return locale.get_display_name(language.locale) or ""


def _price(language: Language, measure: tuple[Decimal, str]) -> str:
    return format_currency(*measure, locale=language.locale)


def _priced(language: Language, measure: tuple[Decimal, str]) -> str:
    """An amount with the currency's name: "5 euros"."""
    cents = measure[0] != int(measure[0])
    return format_currency(*measure, locale=language.locale, format_type="name", currency_digits=cents)


def _name(language: Language, thing: _Thing) -> str:
    return thing[0](language, thing[1])


def _things(source: Language, target: Language) -> list[_Thing]:
    """Whatever has a name in both languages that the source gives to nothing else: Georgia is not Georgian."""
    official = [code for code in sorted(source.locale.territories) if get_official_languages(code)]
    things: list[_Thing] = [
        *((territory_name, code) for code in official),
        *((currency_name, code) for code in _CURRENCIES.split()),
        *((_language_name, Locale(name)) for name in languages() if "_" not in name),
    ]
    named = [each for each in things if all(_name(side, each) not in ("", str(each[1])) for side in (source, target))]
    return without_homonyms(named, [_name], source)


def hold_out(things: Sequence[_Thing], source: Language, target: Language, rng: Random) -> HeldOut:
    """One name in 24, of those that differ in the languages and are part of no other; one range of numbers in 24."""
    names = [(express(_name, source, thing), express(_name, target, thing)) for thing in things]
    all_names = ["\n".join(side) for side in zip(*names, strict=True)]

    def sample(style: Style) -> list[str]:
        kin = [(code, pair) for (named, code), pair in zip(things, names, strict=True) if named is style]
        eligible = [code for code, (a, b) in kin if a != b and all_names[0].count(a) == all_names[1].count(b) == 1]
        return rng.sample(eligible, min(len(eligible), len(kin) // 24))

    return HeldOut(
        territories=sample(territory_name),
        currencies=sample(currency_name),
        decades=sorted(rng.sample(range(10, 210), 8)),
        thousands=sorted(rng.sample(range(3, 1000), 40)),
    )


def _pick(training: Sequence[Any], held: Sequence[Any] = ()) -> Draw:
    return lambda rng, unseen: rng.choice(held if unseen else training)


def world(things: Sequence[_Thing], held: HeldOut) -> list[Kind]:
    """Territories, currencies, money and languages."""
    lands = [code for style, code in things if style is territory_name and code not in held.territories]
    coins = [code for style, code in things if style is currency_name and code not in held.currencies]
    locales = [locale for style, locale in things if style is _language_name]
    codes = {locale.language for locale in locales}
    regional = [name.split("_") for name in sorted(locale_identifiers())]
    dialects = [Locale(*name) for name in regional if len(name) == 2 and name[0] in codes and name[1] in lands]
    return [
        Kind("territory", 9, [territory_name], _pick(lands, held.territories), 0.7, 0.015 * bool(held.territories)),
        Kind("currency", 4, [currency_name], _pick(coins, held.currencies), 0.6, 0.01 * bool(held.currencies)),
        Kind("money", 10, [_price, _priced], measured(coins, 2), listed=0.1),
        Kind("language", 4, [_language_name], _pick(locales), listed=0.7),
        Kind("language", 3, [_language_name], _pick(dialects), listed=0.1),
    ]


def _words(*rules: str) -> Style:
    """Numbers in words, by the first of the rule sets that a language has."""
    return lambda language, number: language.spell(language.rules(*rules), number)


def _reach(style: Style, numbers: Iterable[int], source: Language, target: Language) -> list[int]:
    """The numbers before the first that either language has no words for, or only those of an earlier number."""
    used: list[set[str]] = [{""}, {""}]
    reached: list[int] = []
    for number in numbers:
        for side, words in zip((source, target), used, strict=True):
            text = style(side, number)
            if text in words:
                return reached
            words.add(text)
        reached.append(number)
    return reached


def _split(numbers: Sequence[int], held: HeldOut) -> tuple[list[int], list[int]]:
    """The numbers for training, and those in the held-out ranges."""
    return [n for n in numbers if not held.number(n)], [n for n in numbers if held.number(n)]


def _large(thousands: Sequence[int], held: HeldOut) -> Draw:
    """Numbers of four, five and six digits, equally often."""
    training, held_out = _split(thousands, held)
    lengths = [group for size in (4, 5, 6) if (group := [n for n in training if len(str(n)) == size])]
    return lambda rng, unseen: rng.choice(held_out if unseen else rng.choice(lengths)) + rng.randrange(1000)


def spelled(source: Language, target: Language, held: HeldOut) -> list[Kind]:
    """Numbers in words: cardinals, ordinals, and years where the source reads them differently ("nineteen eighty")."""
    cardinal, ordinal, year = _words("spellout-numbering"), _words(*_ORDINALS), _words("spellout-numbering-year")
    probes = [n + part for n in range(3000, 1_000_000, 1000) for part in (0, 110, 210)]
    counted = _reach(cardinal, [*range(3000), *probes], source, target)
    thousands = [n - 210 for n in counted if n > 3000 and n % 1000 == 210]
    years = _reach(year, range(1100, 2100), source, target)
    years = [n for n in years if len(years) == 1000 and year(source, n) != cardinal(source, n)]

    def kind(name: str, weight: int, style: Style, numbers: Sequence[int], listed: float) -> Kind:
        training, held_out = _split(numbers, held)
        return Kind(name, weight, [style], _pick(training, held_out), listed, unseen=0.01 * bool(held_out))

    return [
        kind("number", 2, cardinal, counted[:100], 0.9),
        kind("number", 4, cardinal, [n for n in counted if 100 <= n < 3000], 0.1),
        Kind("number", 6, [cardinal], _large(thousands, held), unseen=0.01 * any(map(held.number, thousands))),
        kind("ordinal", 4, ordinal, _reach(ordinal, range(1, 1001), source, target), 0.25),
        kind("year", 3, year, years, 0.25),
    ]


def every_kind(source: Language, target: Language, rng: Random) -> tuple[list[Kind], HeldOut]:
    """Every kind of phrase that both languages can express, and what `rng` chose to hold out."""
    things = _things(source, target)
    held = hold_out(things, source, target, rng)
    candidates = [*dates(), *times(), *amounts(source, target), *world(things, held), *spelled(source, target, held)]
    kinds = [kind for each in candidates if (kind := usable(each, source, target)).styles]
    mixed = [kind for kind in kinds if kind.name in ("date", "time", "money", "unit", "territory", "language")]
    return [*kinds, Kind("combination", 8, mixed=mixed)], held
