from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from decimal import Decimal
from random import Random

import pytest
from babel.dates import get_month_names
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.phrases.corpus import UNSEEN, Phrases
from seqloom.data.sources.phrases.unseen import currency_name, every_kind, languages, spelled, territory_name
from seqloom.data.sources.phrases.writer import Kind, Language, Writer, translate, without_homonyms
from seqloom.errors import UsageError

CONFIG = Phrases(size=3000, valid_size=400, test_size=400)
KINDS = {
    *("date", "time", "date and time", "interval", "calendar", "duration"),
    *("decimal", "percent", "unit", "money", "number", "ordinal", "year"),
    *("territory", "currency", "language", "combination"),
}
NUMBERS = ("number", "ordinal", "year")
PAIRS = [
    *(("en", "it"), ("fr", "de"), ("ja", "en"), ("es", "pl"), ("en", "zh_Hant"), ("ru", "fi")),
    *(("ar", "en"), ("de", "de_CH"), ("zu", "sl")),
]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return CONFIG.splits()


def parts(splits: Splits) -> list[Pairs]:
    return [splits.train, splits.valid, *([splits.test] if splits.test else [])]


def copies(pairs: Pairs) -> int:
    return sum(source == target for source, target in zip(pairs.sources, pairs.targets, strict=True))


def items(phrase: str) -> list[str]:
    return re.split(r", (?:and |or )?| and | or ", phrase)


def of_kind(pairs: Pairs, *kinds: str) -> list[str]:
    return [source for source, kind in zip(pairs.sources, pairs.kinds, strict=True) if kind in kinds]


def test_sizes_are_those_asked_for(splits: Splits) -> None:
    assert [len(pairs) for pairs in parts(splits)] == [3000, 400, 400]
    assert all(len(pairs.targets) == len(pairs.kinds) == len(pairs) for pairs in parts(splits))
    assert Phrases(size=20, valid_size=5, test_size=0).splits().test is None


def test_every_kind_is_in_every_split(splits: Splits) -> None:
    unseen = {kind + UNSEEN for kind in (*NUMBERS, "territory", "currency")}
    assert set(splits.train.kinds) == KINDS
    for pairs in parts(splits)[1:]:
        assert set(pairs.kinds) == KINDS | unseen


def test_splits_share_no_source_and_each_source_has_one_target(splits: Splits) -> None:
    sources = [source for pairs in parts(splits) for source in pairs.sources]
    assert len(set(sources)) == len(sources)


def held_out_names(config: Phrases) -> dict[str, list[str]]:
    """What training never shows, in the source language, by the kind of phrase."""
    source, target = Language(config.source), Language(config.target)
    held = every_kind(source, target, Random(f"seqloom phrases {config.seed}"))[1]
    return {
        "territory": [territory_name(source, code) for code in held.territories],
        "currency": [currency_name(source, code) for code in held.currencies],
    }


def test_held_out_names_are_marked_and_absent_from_training(splits: Splits) -> None:
    names = held_out_names(CONFIG)
    assert len(names["territory"]) >= 5
    assert len(names["currency"]) >= 2
    everything = "\n".join(splits.train.sources)
    for kind, held in names.items():
        assert not [name for name in held if name in everything]
        for pairs in parts(splits)[1:]:
            marked = of_kind(pairs, kind + UNSEEN)
            assert all(any(name in phrase for name in held) for phrase in marked)
            assert 0 < len(marked) <= 0.015 * len(pairs)
    share = sum(len(of_kind(splits.valid, kind + UNSEEN)) for kind in names) / len(splits.valid)
    assert 0.02 <= share <= 0.03


def test_held_out_ranges_of_numbers_are_marked_and_absent_from_training(splits: Splits) -> None:
    english = Language("en")
    held = every_kind(english, Language("de"), Random(f"seqloom phrases {CONFIG.seed}"))[1]
    rules = "spellout-numbering", "spellout-numbering-year", "spellout-ordinal"
    numbers = [*range(3000), *range(3000, 1_000_000, 1000)]
    value = {english.spell(name, number): number for name in rules for number in numbers}

    def in_range(words: str) -> bool:
        thousands = re.sub(r"thousand .*", "thousand", words)
        return held.number(value[words] if words in value else value[thousands])

    assert not [words for phrase in of_kind(splits.train, *NUMBERS) for words in items(phrase) if in_range(words)]
    for pairs in parts(splits)[1:]:
        for phrase in of_kind(pairs, *(kind + UNSEEN for kind in NUMBERS)):
            assert any(in_range(words) for words in items(phrase))


def test_same_config_same_corpus_on_any_machine(splits: Splits) -> None:
    get_month_names("wide", "stand-alone", "ja")  # with Babel 2.18 this changes the months of other locales
    again = CONFIG.splits()
    digests = [pairs.digest() for pairs in parts(splits)]
    assert [pairs.digest() for pairs in parts(again)] == digests
    assert list(again.valid.kinds) == list(splits.valid.kinds)
    code = (
        "from seqloom.data.sources.phrases.corpus import Phrases\n"
        "s = Phrases(size=3000, valid_size=400, test_size=400).splits()\n"
        "print(s.train.digest(), s.valid.digest(), s.test.digest())"
    )
    for seed, zone, locale in (("1", "Asia/Tokyo", "fr_FR.UTF-8"), ("2", "America/Lima", "C")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "LANGUAGE": locale}
        out = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert out.stdout.split() == digests


def test_seed_changes_phrases_and_what_is_held_out(splits: Splits) -> None:
    other = Phrases(size=50, valid_size=5, test_size=0, seed=2)
    assert other.splits().train.digest() != Phrases(size=50, valid_size=5, test_size=0).splits().train.digest()
    assert held_out_names(other) != held_out_names(CONFIG)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_any_two_languages(source: str, target: str) -> None:
    splits = Phrases(source, target, size=300, valid_size=60, test_size=60).splits()
    assert [len(pairs) for pairs in parts(splits)] == [300, 60, 60]
    sources = [text for pairs in parts(splits) for text in pairs.sources]
    targets = [text for pairs in parts(splits) for text in pairs.targets]
    assert len(set(sources)) == len(sources)
    assert len(set(splits.train.kinds)) >= 12
    for text in (*sources, *targets):
        assert text == text.strip() != ""
        assert not re.search("[\u00a0\u00ad\u2009\u202f{}\n]|None", text)
    for pairs in parts(splits):
        assert copies(pairs) <= 0.05 * len(pairs)


@settings(max_examples=6, deadline=None)
@given(
    size=st.integers(1, 90), valid=st.integers(1, 40), test=st.integers(0, 40), pair=st.sampled_from(["en-de", "de-fr"])
)
def test_small_sizes_hold_every_promise(size: int, valid: int, test: int, pair: str) -> None:
    splits = Phrases(*pair.split("-"), size=size, valid_size=valid, test_size=test).splits()
    assert sum(map(len, parts(splits))) == size + valid + test
    assert len({source for pairs in parts(splits) for source in pairs.sources}) == size + valid + test
    assert all(copies(pairs) <= 0.05 * len(pairs) for pairs in parts(splits))


def test_spelled_numbers_are_told_apart_even_where_a_language_has_gaps() -> None:
    zulu, slovenian = Language("zu"), Language("sl")
    held = every_kind(zulu, slovenian, Random(0))[1]
    rng = Random(0)
    for kind in [kind for kind in spelled(zulu, slovenian, held) if kind.name == "number" and kind.unseen]:
        drawn = {kind.draw(rng, False) for _ in range(500)}
        for language in (zulu, slovenian):
            assert len({kind.styles[0](language, number) for number in drawn}) == len(drawn)


def test_styles_a_source_does_not_tell_apart_have_one_target() -> None:
    english, german = Language("en"), Language("de")
    styles = [
        lambda language, number: "x" if language is english else f"first {number}",
        lambda language, number: f"{'x' if number < 10 else 'y'}" if language is english else f"second {number}",
    ]
    assert translate(styles, 1, 3, english, german) == ("x", "first 3")
    assert translate(styles, 1, 30, english, german) == ("y", "second 30")


def test_told_apart_keeps_the_first_of_two_that_sound_alike() -> None:
    lengths = [lambda language, word: word[0]]
    assert without_homonyms(["ant", "bee", "asp", "cow"], lengths, Language("en")) == ["ant", "bee", "cow"]


def test_what_the_languages_say() -> None:
    english, german = Language("en"), Language("de")
    kinds = {kind.name: kind for kind in reversed(every_kind(english, german, Random(0))[0])}
    day = datetime.datetime(2003, 5, 9, 15, 4, 5)
    expected = {
        "date": (0, day, ("Friday, May 9, 2003", "Freitag, 9. Mai 2003")),
        "time": (0, day, ("3:04 PM", "15:04")),
        "duration": (2, datetime.timedelta(days=-3), ("3 days ago", "vor 3 Tagen")),
        "number": (0, 21, ("twenty-one", "einundzwanzig")),
        "year": (0, 1984, ("nineteen eighty-four", "neunzehnhundertvierundachtzig")),
        "territory": (0, "CH", ("Switzerland", "Schweiz")),
        "money": (0, (Decimal(1234), "EUR"), ("€1,234.00", "1.234,00 €")),
    }
    for name, (style, value, pair) in expected.items():
        assert translate(kinds[name].styles, style, value, english, german) == pair


def test_unknown_language_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"source: .*'pt-PT'\n.*'pt_PT'"):
        Phrases("pt-PT", "de").splits()
    with pytest.raises(UsageError, match=r"target: .*'xxx'\n.*af, ak"):
        Phrases("en", "xxx").splits()
    assert {"en", "de", "it", "fr", "ja", "es", "pl"} <= set(languages())


def test_same_language_twice() -> None:
    with pytest.raises(UsageError, match="'fr' is the source language too"):
        Phrases("fr", "fr").splits()


@pytest.mark.parametrize("sizes", [{"size": 0}, {"valid_size": 0}, {"test_size": -1}])
def test_impossible_sizes(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(sizes))} must be from"):
        Phrases(**sizes)


def test_languages_that_have_no_more_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    english, german = Language("en"), Language("de")
    three = Kind("three", 1, [lambda language, n: f"{n} {language.locale}"], lambda rng, unseen: rng.randrange(3))
    assert len(Writer(english, german, [three], Random(0)).seen(10)) == 3
    held = every_kind(english, german, Random(0))[1]
    monkeypatch.setattr("seqloom.data.sources.phrases.unseen.every_kind", lambda *_: ([three], held))
    with pytest.raises(UsageError, match=r"only 1 training phrase, not 5\n.*fewer"):
        Phrases(size=5, valid_size=1, test_size=1).splits()


def test_a_config_costs_no_import() -> None:
    code = "import sys, seqloom.data.sources.phrases.corpus\n"
    code += "assert not {'babel', 'unicode_rbnf', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
