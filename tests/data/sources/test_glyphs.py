"""Letters of fonts and their names; families held out; fonts without a letter."""

from __future__ import annotations

import numpy as np
import pytest

from seqloom.data.formats.parallel import usable
from seqloom.data.sources.glyphs import Glyphs
from seqloom.errors import DataError, UsageError
from seqloom.media.images import from_uri

pytest.importorskip("PIL.ImageFont", reason="Pillow is not installed")


def glyphs(**keys: object) -> Glyphs:
    """Letters of DejaVu Sans; skips where there is none."""
    from PIL import ImageFont

    try:
        ImageFont.truetype("DejaVuSans.ttf", 10)
    except OSError:
        pytest.skip("the font DejaVu Sans is not installed")
    return Glyphs(**{"valid_families": 2, "test_families": 3, "size": 16, **keys})  # type: ignore[arg-type]


def test_families_are_held_out_but_for_the_bare_letter() -> None:
    splits = glyphs().splits()
    assert splits.test is not None
    train, valid, test = (usable(part)[0] for part in (splits.train, splits.valid, splits.test))
    for part, count in ((valid, 2), (test, 3)):
        assert len({*part.kinds}) <= count
        assert all(" WITH " in name for name in part.targets)
        assert not {*part.kinds} & {name.partition(" WITH ")[0] for name in train.targets if " WITH " in name}
    assert not {*valid.kinds} & {*test.kinds}
    assert "LATIN SMALL LETTER A" in train.targets
    assert splits.train.digest() == glyphs().splits().train.digest() != glyphs(seed=2).splits().train.digest()


def test_letters_are_drawn_whole() -> None:
    train, _ = usable(glyphs(size=32).splits().train)
    images = {name: from_uri(uri)[0] for uri, name in zip(train.sources, train.targets, strict=True)}
    assert images["LATIN SMALL LETTER A"].shape == (32, 32)
    dotted, dotless = images["LATIN SMALL LETTER I"], images["LATIN SMALL LETTER DOTLESS I"]
    assert np.array_equal(dotted[14:], dotless[14:])
    assert dotted[:14].sum() > dotless[:14].sum()


def test_a_letter_that_a_font_does_not_have() -> None:
    built_in = Glyphs(fonts=("built-in",), size=16)
    train, lost = usable(built_in.splits().train)
    assert 52 <= len(train) < 70
    assert lost > 100
    with pytest.raises(DataError, match=r"built-in: has no glyph for U\+00"):
        Glyphs(fonts=("built-in",), size=16, missing="refuse").splits()
    with pytest.raises(UsageError, match=r"no-such-font\.ttf: is no font that Pillow can read"):
        Glyphs(fonts=("no-such-font.ttf",)).splits()
    with pytest.raises(UsageError, match="families are held out, and there are"):
        Glyphs(test_families=1000).splits()
