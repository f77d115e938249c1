"""How phrases are written: languages, kinds of phrases, and the writer that draws and translates them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from random import Random
from typing import Any, Literal, NamedTuple

from babel import Locale, localedata
from babel.lists import format_list
from unicode_rbnf import RbnfEngine
from unicode_rbnf.engine import RbnfError

COPIES = 0.04  # the largest share of a split's phrases that may read the same in both languages

# CLDR has no-break and thin spaces for typesetting, and its spelled-out numbers contain soft hyphens. Nobody types
# either, and a model would have to guess which of several equal-looking characters is meant: plain spaces, no hyphens.
_PLAIN = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2007": " ", "\u00ad": None})


@cache
def _engine(name: str) -> RbnfEngine:
    return RbnfEngine.for_language(name)


@cache  # all corpora of a process share them, because spelling takes most of the time
def _spelled(name: str, rules: str, number: int) -> str:
    try:
        return "".join(_engine(name).iter_format_number(number, rules)).translate(_PLAIN)
    except RbnfError:
        return ""


class Language:
    """What Babel and unicode-rbnf know about one language; `name` is a name that both use ("de", "pt_PT")."""

    def __init__(self, name: str) -> None:
        # Babel 2.18 writes what one locale looks up into data that others inherit: after Japanese, German months are
        # Japanese (python-babel issue 1234). Without the cache each locale reads data of its own.
        localedata._cache.clear()
        self.name, self.locale = name, Locale.parse(name)
        self.twelve_hours = "h" in self.locale.time_formats["short"].pattern

    def rules(self, *names: str) -> str:
        """The first of the rule sets that the language has; "" if it has none."""
        return next((name for name in names if name in _engine(self.name).rulesets), "")

    def spell(self, rules: str, number: int) -> str:
        """The number in words by one of the language's rule sets; "" where its rules do not reach."""
        return _spelled(self.name, rules, number)


Style = Callable[[Language, Any], str]
Draw = Callable[[Random, bool], Any]


@dataclass(frozen=True)
class Kind:
    """One kind of phrase.

    Args:
        name: its entry in `Pairs.kinds`.
        weight: how often it is drawn, relative to the weights of the others.
        styles: the ways to express a value.
        draw: a random value; with True, one that is held out from training.
        listed: the share of phrases that list two or three values.
        unseen: the share of its held-out phrases in validation and test data.
        mixed: kinds of which a phrase combines two; a kind that has them needs neither `styles` nor `draw`.
    """

    name: str
    weight: int
    styles: Sequence[Style] = ()
    draw: Draw = lambda rng, unseen: None
    listed: float = 0.0
    unseen: float = 0.0
    mixed: Sequence[Kind] = ()


def express(style: Style, language: Language, value: Any) -> str:
    """A value in one language and style, with plain spaces."""
    return style(language, value).translate(_PLAIN)


def translate(styles: Sequence[Style], chosen: int, value: Any, source: Language, target: Language) -> tuple[str, str]:
    """A value in both languages. Styles that look the same in the source get the target of the first of them."""
    text = express(styles[chosen], source, value)
    first = next((i for i in range(chosen) if express(styles[i], source, value) == text), chosen)
    return text, express(styles[first], target, value)


def usable(kind: Kind, source: Language, target: Language) -> Kind:
    """The kind with the styles for which both languages have patterns; Babel raises these errors for a missing one."""
    styles = []
    for style in kind.styles:
        with contextlib.suppress(LookupError, ValueError, TypeError, AttributeError, NotImplementedError):
            values = [kind.draw(rng, False) for rng in [Random(0)] for _ in range(12)]
            if all(express(style, side, value) for side in (source, target) for value in values):
                styles.append(style)
    return replace(kind, styles=styles)


def without_homonyms(values: Iterable[Any], styles: Sequence[Style], language: Language) -> list[Any]:
    """The values, without those that some style expresses in the words of an earlier one."""
    used: set[str] = set()
    distinct = []
    for value in values:
        texts = {express(style, language, value) for style in styles}
        if not texts & used:
            distinct.append(value)
        used |= texts
    return distinct


class Phrase(NamedTuple):
    """One pair of the corpus, with its kind."""

    source: str
    target: str
    kind: str


class Writer:
    """Writes phrases in two languages, and no source twice."""

    def __init__(self, source: Language, target: Language, kinds: Sequence[Kind], rng: Random) -> None:
        self.source, self.target, self.kinds, self.rng = source, target, kinds, rng
        self._written: set[str] = set()

    def seen(self, count: int) -> list[Phrase]:
        """`count` phrases with nothing held out, in random order; fewer if the languages have no more."""
        phrases: list[Phrase] = []
        copies = 0
        for kind in self.rng.choices(self.kinds, [kind.weight for kind in self.kinds], k=8 * count):
            if len(phrases) == count:
                break
            phrase = self._phrase(kind, unseen=False)
            copied = phrase is not None and phrase.source == phrase.target
            if phrase and (not copied or copies < COPIES * len(phrases)):
                phrases.append(phrase)
                copies += copied
        self.rng.shuffle(phrases)
        return phrases

    def unseen(self, size: int) -> list[Phrase]:
        """The phrases with something held out for a split of this size."""
        phrases: list[Phrase] = []
        for kind in self.kinds:
            count = round(kind.unseen * size)
            tries = (self._phrase(kind, unseen=True) for _ in range(8 * count))
            phrases += islice((each for each in tries if each and each.source != each.target), count)
        return phrases

    def _phrase(self, kind: Kind, unseen: bool) -> Phrase | None:
        """A phrase of one kind; None if it was written before."""
        if kind.mixed:
            parts = self.rng.sample(kind.mixed, 2)
            items = [self._item(part, self.rng.randrange(len(part.styles)), unseen=False) for part in parts]
        else:
            count = self.rng.choice((2, 2, 3)) if self.rng.random() < kind.listed else 1
            chosen = self.rng.randrange(len(kind.styles))
            items = [self._item(kind, chosen, unseen and i == 0) for i in range(count)]
            self.rng.shuffle(items)
        style: Literal["standard", "or"] = "standard" if kind.mixed else self.rng.choice(("standard", "or"))
        sources, targets = zip(*items, strict=True)
        source, target = (
            format_list(texts, style, side.locale).translate(_PLAIN)
            for texts, side in ((sources, self.source), (targets, self.target))
        )
        if source in self._written or len(set(sources)) < len(sources):
            return None
        self._written.add(source)
        return Phrase(source, target, kind.name)

    def _item(self, kind: Kind, chosen: int, unseen: bool) -> tuple[str, str]:
        return translate(kind.styles, chosen, kind.draw(self.rng, unseen), self.source, self.target)
