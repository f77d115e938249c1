"""The letters of fonts and their Unicode names: LATIN SMALL LETTER A WITH GRAVE."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.captions import ImagePairs
from seqloom.errors import DataError, UsageError, optional
from seqloom.limits import Bounds, Rows, Seed
from seqloom.media.augment import Augment
from seqloom.media.images import png_uri

_NONE = "\U0010fffe"  # no character: what a font draws for it stands for all that it does not have
_BUILT_IN = "built-in"
_GAP = " WITH "
_LEAST = 4
_LETTERS = 0x20000  # beyond are ideographs


@dataclass(frozen=True)
class Glyphs(ImagePairs):
    """The letters of some fonts, drawn by Pillow in grey, and their Unicode names.

    A family is a letter with all its marks: LATIN SMALL LETTER E WITH ACUTE, WITH GRAVE, ... Of the families that are
    held out, which have four such letters or more, only the bare letter is in the training data.

    Args:
        fonts: files, or names that Pillow finds among the fonts of the system or matplotlib's; "built-in" is Pillow's
            own, which has no letters with marks.
        test_fonts: the fonts of the test data, where they are others.
        scripts: the first words of the names.
        valid_families, test_families: how many families are held out for validation and test, drawn by the seed.
        size: the height and width of the images.
        missing: whether a letter that a font does not have is refused, or skipped and counted.
        augment: random changes of the training images.
        seed: another seed holds out other families.
    """

    kind: ClassVar[str] = "glyphs"
    channels: ClassVar[int] = 1  # type: ignore[misc]
    fonts: tuple[str, ...] = ("DejaVuSans.ttf",)
    test_fonts: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ("LATIN",)
    valid_families: Rows = 6
    test_families: Rows = 12
    size: Annotated[int, Bounds(8, 1000)] = 32
    missing: Literal["refuse", "skip"] = "skip"
    augment: Augment = field(default_factory=Augment)
    seed: Seed = 1

    def splits(self) -> Splits:
        """See PairSource; the kind of a pair is its family."""
        letters = [(c, name) for c in map(chr, range(_LETTERS)) if (name := unicodedata.name(c, ""))]
        letters = [(c, name) for c, name in letters if name.split(" ")[0] in self.scripts]
        sizes = Counter(name.partition(_GAP)[0] for _, name in letters if _GAP in name)
        families = sorted(family for family, size in sizes.items() if size >= _LEAST)
        held = self.valid_families + self.test_families
        if held >= len(families):
            problem = f"{held} families are held out, and there are {len(families)}"
            raise UsageError(problem, where="data.test_families", cure="hold out fewer, or name more data.scripts")
        drawn = Random(f"seqloom glyphs {self.seed}").sample(families, held)
        valid, test = {*drawn[: self.valid_families]}, {*drawn[self.valid_families :]}
        parts: list[list[tuple[str, str]]] = [[], [], []]
        for c, name in letters:
            family, marks, _ = name.partition(_GAP)
            parts[0 if not marks else 1 if family in valid else 2 if family in test else 0].append((c, name))
        fonts = (self.fonts, self.fonts, self.test_fonts or self.fonts)
        train, valid_pairs, test_pairs = (self._pairs(names, part) for names, part in zip(fonts, parts, strict=True))
        return Splits(train, valid_pairs, test_pairs)

    def _pairs(self, fonts: tuple[str, ...], letters: list[tuple[str, str]]) -> Pairs:
        rows = [row for font in fonts for row in self._drawn(font, letters)]
        sources, targets = [uri for uri, _ in rows], [name for _, name in rows]
        return Pairs(sources, targets, (", ".join(fonts),) * 2, kinds=[name.partition(_GAP)[0] for name in targets])

    def _drawn(self, name: str, letters: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        font = _font(name, round(0.6 * self.size))
        nothing = _pixels(font, _NONE, self.size).tobytes()
        for c, title in letters:
            pixels = _pixels(font, c, self.size)
            there = pixels.tobytes() != nothing
            if not there and self.missing == "refuse":
                problem = f"has no glyph for U+{ord(c):04X}, {title}"
                raise DataError(problem, where=name, cure="name another font; data.missing = 'skip' leaves letters out")
            yield png_uri(pixels) if there else "", title


def _font(name: str, size: int) -> Any:
    """A font of a height in pixels. Raises UsageError."""
    fonts = optional("PIL.ImageFont", "drawing letters", "vision")
    if name == _BUILT_IN:
        return fonts.load_default(size)
    places = [name]
    if (spec := find_spec("matplotlib")) is not None and spec.origin:
        places.append(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name))
    for place in places:
        try:
            return fonts.truetype(place, size)
        except (OSError, ValueError) as error:
            problem = str(error)
    cure = "name the file of a font (.ttf, .otf); Debian's fonts-dejavu-core and the package matplotlib have DejaVuSans"
    raise UsageError(f"is no font that Pillow can read: {problem}", where=name, cure=cure)


def _pixels(font: Any, text: str, size: int) -> np.ndarray:
    image = optional("PIL.Image", "drawing letters", "vision").new("L", (size, size))
    draw = optional("PIL.ImageDraw", "drawing letters", "vision").Draw(image)
    draw.text((size / 2, 0.7 * size), text, fill=255, font=font, anchor="ms")
    return np.asarray(image)[None]
