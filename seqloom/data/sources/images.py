"""Labelled images: from files, and scikit-learn's handwritten digits, which need none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from seqloom.data.formats.arrays import check_distinct
from seqloom.data.formats.images import read_images
from seqloom.data.rows import LabelledArray
from seqloom.data.sources.labelled import ExampleFiles
from seqloom.errors import DataError, optional
from seqloom.files import Json
from seqloom.limits import Bounds
from seqloom.media.augment import Augment
from seqloom.media.images import Shape, said


@dataclass(frozen=True)
class ImageFiles(ExampleFiles[LabelledArray]):
    """Labelled images: folders with a folder for each label; IDX files of images (MNIST: FILE-images-idx3-ubyte, with
    its labels beside it); .npz with "images" and "labels"; or tables, .csv or .tsv, of paths and labels.

    Args:
        size: the height and width that images are resized to; 0 = all must have the same.
        channels: 1 = all become grey, 3 = all get three colours; 0 = all must have the same.
        image, label: the columns of a table.
        names: the names of labels that are numbers, from 0; by default the numbers are the names.
        damaged: whether a damaged image file, or one of more than 50,000,000 pixels, is refused, or skipped and
            counted.
        augment: random changes of the training images.
    """

    kind: ClassVar[str] = "images"
    modality: ClassVar[str] = "image"
    size: Annotated[int, Bounds(0, 10_000)] = 0
    channels: Annotated[int, Bounds(0, 3)] = 0
    image: str = "image"
    label: str = "label"
    names: tuple[str, ...] = ()
    damaged: Literal["refuse", "skip"] = "refuse"
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self.names)
        if self.channels == 2:
            raise ValueError("channels must be 1 (grey), 3 (red, green and blue) or 0")

    def read(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SplitFiles; a damaged image has no pixels."""
        shape, columns = Shape(self.size, self.channels), (self.image, self.label)
        return read_images(files, shape, columns, self.names, skip=self.damaged == "skip")

    def learned(self, rows: Sequence[LabelledArray]) -> Json:
        """The sizes of the training images, and the mean and the deviation of each channel.

        Raises DataError where sizes differ.
        """
        first = rows[0]
        for row in rows:
            if row.values.shape != first.values.shape:
                cure = "data.size = 32 resizes all images to 32 x 32; data.channels = 1 or 3 converts them"
                problem = f"an image of {said(row.values)}, and {first.where} is {said(first.values)}"
                raise DataError(problem, where=row.where, cure=cure)
        channels, height, width = first.values.shape
        if height != width:
            raise DataError(f"images of {said(first.values)}, not square", where=first.where, cure="set data.size")
        sums = np.array([[row.values.sum((1, 2)), np.square(row.values.astype(np.int64)).sum((1, 2))] for row in rows])
        mean, square = sums.sum(0) / (len(rows) * height * width)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        scale = {"mean": mean.tolist(), "deviation": np.where(deviation > 0, deviation, 1.0).tolist()}
        return {"sizes": {"size": height, "channels": channels}, "scale": scale}


_TRAIN, _TEST = "digits-8x8/train", "digits-8x8/test"


@dataclass(frozen=True)
class SmallDigits(ImageFiles):
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998).

    Args:
        train, valid, test: "digits-8x8/test" is every fifth of them, "digits-8x8/train" the others; or files, as of the
            kind "images". Without `valid`, a tenth of `train`, drawn by the seed, is held out.
    """

    kind: ClassVar[str] = "digits-8x8"
    train: tuple[str, ...] = (_TRAIN,)
    test: tuple[str, ...] = (_TEST,)

    def read(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SplitFiles. Raises MissingExtra where scikit-learn is not installed."""
        rows = super().read([f for f in files if f not in (_TRAIN, _TEST)])
        for name in (f for f in files if f in (_TRAIN, _TEST)):
            digits = optional("sklearn.datasets", "data.kind = 'digits-8x8'", "maps").load_digits()
            pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
            part = (i for i in range(len(pixels)) if (i % 5 == 4) == (name == _TEST))
            rows += [LabelledArray(pixels[i], str(digits.target[i]), f"digits-8x8:{i + 1}") for i in part]
        return rows
