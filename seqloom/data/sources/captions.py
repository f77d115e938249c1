"""Images and what is written about them: captions from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar, Literal

from seqloom.data.formats.images import image_files, named_arrays
from seqloom.data.formats.lines import expand, is_blank, text_of
from seqloom.data.rows import LabelledArray, Pairs, Splits
from seqloom.data.sources.images import ImageFiles
from seqloom.data.sources.pairs import PairSource
from seqloom.errors import ConfigError, DataError
from seqloom.files import Json
from seqloom.limits import Bounds, Length, Seed
from seqloom.media.augment import Augment
from seqloom.media.images import DamagedImageError, Shape, from_uri, is_uri, png_uri, read_image


class ImagePairs(PairSource):
    """Pairs of an image and a text; an image stands in them as the path of its file, or as a data: address.

    Attributes:
        size, channels: see ImageFiles.
        augment: how training images are changed.
    """

    modality: ClassVar[str] = "image"
    several: ClassVar[bool] = True
    size: int
    channels: int
    augment: Augment

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels == 2:
            raise ValueError("channels must be 1 (grey), 3 (red, green and blue) or 0")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix are for labels: a text cannot be mixed")

    def pixels(self, sources: Sequence[str]) -> list[LabelledArray]:
        """The images of some sources."""
        shape = Shape(self.size, self.channels)
        places = dict.fromkeys(image_of(source) for source in sources)
        images = [(s, from_uri(s) if is_uri(s) else read_image(Path(s), shape)) for s in places]
        return [LabelledArray(values, where="" if is_uri(s) else s) for s, values in images]

    def learned(self, train: Pairs) -> Json:
        """See PairSource. Raises DataError where sizes differ."""
        return ImageFiles().learned(self.pixels(train.sources))


def image_of(source: str) -> str:
    """The image of a source, which may have a text behind a tab."""
    return source.partition("\t")[0]


def text_beside(source: str) -> str:
    """The text behind the image of a source; "" where there is none."""
    return source.partition("\t")[2]


@dataclass(frozen=True)
class Captions(ImagePairs):
    """Images with one caption or several each. All captions of an image are learned, and are right answers in a test.

    Args:
        train, valid, test: the images, an .npz of "images" and "names" or a folder of files, and the table of
            captions: .tsv of names, each with its captions in further columns or further lines; ${VARIABLES} of the
            environment are expanded. Without `valid`, a tenth of the images, drawn by the seed, is held out.
        size: the height and width that images are resized to; 0 = all must have the same.
        channels: 1 = all become grey, 3 = all get three colours; 0 = all must have the same.
        unpaired, damaged: whether images without a caption and captions without an image, and files of images that are
            damaged or have more than 50,000,000 pixels, are refused, or skipped and counted.
        max_length: a training caption of more tokens is left out, and counted.
        augment: random changes of the training images.
        seed: another seed holds out other images.
    """

    kind: ClassVar[str] = "captions"
    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    size: Annotated[int, Bounds(0, 10_000)] = 0
    channels: Annotated[int, Bounds(0, 3)] = 0
    unpaired: Literal["refuse", "skip"] = "refuse"
    damaged: Literal["refuse", "skip"] = "refuse"
    max_length: Length = 128
    augment: Augment = field(default_factory=Augment)
    seed: Seed = 1

    def splits(self) -> Splits:
        """See PairSource."""
        train, test = self.read(self.train), self.read(self.test) if self.test else None
        if self.valid:
            return Splits(train, self.read(self.valid), test)
        images = sorted({image_of(s) for s, t in zip(train.sources, train.targets, strict=True) if s and t})
        held = {*Random(f"seqloom captions {self.seed}").sample(images, len(images) // 10)}
        if not held:
            cure = "name validation data with --data.valid"
            raise DataError("no image can be held out for validation", where=train.files[0], cure=cure)
        chosen = [image_of(source) in held for source in train.sources]
        kept, valid = (train.select([i for i, c in enumerate(chosen) if c == part]) for part in (False, True))
        return Splits(kept, valid, test)

    def longest(self) -> int:
        """See PairSource."""
        return self.max_length

    def read(self, files: Sequence[str]) -> Pairs:
        """See PairSource; a pair that is skipped has an empty side."""
        if len(files) != 2:
            cure = "name the images and the table of their captions: IMAGES.npz CAPTIONS.tsv"
            raise ConfigError(f"captions are two files, not {len(files)}", cure=cure)
        place, table = map(expand, files)
        images = dict(self._images(place))
        rows: list[tuple[str, str, int]] = []
        named = set[str]()
        for number, (line, where) in enumerate(text_of(table), 1):
            name, *captions = line.split("\t")
            if is_blank(line):
                continue
            examples = self.examples(captions, where)
            if name not in images:
                self._refuse(f"there is no image {name!r} in {place}", where, "remove the line, or add the image")
            named.add(name)
            image = images.get(name, "")
            rows += [(f"{image}{text}" if image else "", target, number) for text, target in examples]
        for name in images.keys() - named:
            self._refuse(f"the image {name!r} has no caption in {table}", str(place), "add a line for it")
            rows.append((images[name], "", 0))
        if not rows:
            raise DataError("no caption in the file", where=str(table), cure="write NAME<TAB>CAPTION<TAB>CAPTION")
        sources, targets, lines = zip(*rows, strict=True)
        return Pairs(sources, targets, (str(table),) * 2, lines)

    def examples(self, cells: Sequence[str], where: str) -> list[tuple[str, str]]:
        """What stands behind the image in a source, and the target, for each example of a line. Raises DataError."""
        captions = [cell for cell in cells if not is_blank(cell)]
        if not captions or captions != cells[: len(captions)]:  # a table with room for more has blank ones at the end
            problem = "a blank caption before another" if captions else "a name without a caption"
            raise DataError(problem, where=where, cure="write NAME<TAB>CAPTION<TAB>CAPTION")
        return [("", caption) for caption in captions]

    def _refuse(self, problem: str, where: str, cure: str) -> None:
        if self.unpaired == "refuse":
            raise DataError(problem, where=where, cure=f"{cure}; data.unpaired = 'skip' leaves it out")

    def _images(self, place: Path) -> Iterator[tuple[str, str]]:
        """The names of images, and how they stand in pairs; "" for a damaged one."""
        shape = Shape(self.size, self.channels)
        if not place.is_dir():
            yield from ((name, png_uri(pixels)) for name, pixels in named_arrays(place, shape))
            return
        for file in image_files(place):
            try:
                read_image(file, shape)
                yield file.name, str(file)
            except DamagedImageError:
                if self.damaged == "refuse":
                    raise
                yield file.name, ""


@dataclass(frozen=True)
class Illustrated(Captions):
    """Texts with an image each, which may decide what they mean, and their translations: a table NAME<TAB>TEXT<TAB>
    TRANSLATION beside the images. A source is IMAGE<TAB>TEXT.

    Args:
        train, valid, test: the images, an .npz of "images" and "names" or a folder of files, and the table;
            ${VARIABLES} of the environment are expanded. Without `valid`, the texts of a tenth of the images, drawn by
            the seed, are held out.
    """

    kind: ClassVar[str] = "illustrated"
    beside: ClassVar[str] = "text"

    def examples(self, cells: Sequence[str], where: str) -> list[tuple[str, str]]:
        """See Captions."""
        if len(cells) != 2 or any(map(is_blank, cells)):
            problem = f"{len(cells)} texts behind the name, or a blank one"
            raise DataError(problem, where=where, cure="write NAME<TAB>TEXT<TAB>TRANSLATION, a line for each text")
        return [(f"\t{cells[0]}", cells[1])]
