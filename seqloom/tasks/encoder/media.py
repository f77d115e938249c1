"""Texts and images as models read them; and the class of each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqloom.data.batches.windows import Change, Item, Scale, Window, frame
from seqloom.data.formats.images import image_files
from seqloom.data.formats.lines import is_blank, is_text
from seqloom.data.rows import Example, LabelledArray
from seqloom.errors import DataError, UsageError
from seqloom.files import Json
from seqloom.inspection.images import image_attention
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.page import join
from seqloom.media.augment import Augment
from seqloom.media.images import BILINEAR, Shape, fitted, from_uri, image_of, is_uri, png_uri, read_image, said
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.medium import Medium, neighbours
from seqloom.tasks.encoder.signals import SignalMedium
from seqloom.tasks.encoder.task import seen
from seqloom.tasks.task import Seen
from seqloom.text.dna import reverse_complement


class TextMedium(Medium):
    """Texts, or pairs of texts."""

    inputs = ("text", "second")

    def row(self, example: Any) -> Example:
        """A text; or a pair, as a tuple or with a tab between the two. An imported model takes both."""
        parts = tuple(example) if isinstance(example, Sequence) and not isinstance(example, str) else (example,)
        either, pairs = not self.config.data.train, self.config.pairs
        if isinstance(example, str) and (pairs or either):
            parts = tuple(example.split("\t"))
        sizes = (1, 2) if either else (1 + pairs,)
        if len(parts) not in sizes or not all(map(is_text, parts)):
            expected = "texts or " * either + "pairs of texts: FIRST<TAB>SECOND" if pairs or either else "texts"
            raise UsageError(f"cannot be read: {str(example)[:80]!r}", cure=f"this run is for {expected}")
        return Example(*parts)

    def windows(self, rows: Sequence[Example]) -> list[tuple[Window, ...]]:
        """See Medium."""
        if not self.strands:
            return self._windows(rows)
        others = [replace(row, text=reverse_complement(row.text, row.where or repr(row.text[:40]))) for row in rows]
        return [one + other for one, other in zip(self._windows(rows), self._windows(others), strict=True)]

    @property
    def strands(self) -> bool:
        """Whether both strands of DNA are read."""
        return getattr(self.config.data, "strands", "one") == "both"

    def change(self) -> Change | None:
        """One strand of DNA, drawn anew each time, where both are read."""

        def changed(items: list[Item], random: np.random.Generator) -> list[Item]:
            halves = [(item, len(item.windows) // 2) for item in items]
            drawn = random.integers(2, size=len(items)).tolist()
            return [
                replace(item, windows=item.windows[half:] if other else item.windows[:half])
                for (item, half), other in zip(halves, drawn, strict=True)
            ]

        return changed if self.strands else None

    def _windows(self, rows: Sequence[Example]) -> list[tuple[Window, ...]]:
        tokenizer, config = self.assets.tokenizer, self.config.batches
        texts = tokenizer.encode([row.text for row in rows])
        seconds = tokenizer.encode([row.second for row in rows])
        template, several = tokenizer.template, config.long == "windows"
        return [
            frame(a, b if row.second or self.config.pairs else None, template, config, windows=several)
            for row, a, b in zip(rows, texts, seconds, strict=True)
        ]

    def shown(self, row: Example) -> dict[str, str]:
        """See Medium."""
        return {"text": row.text, **({"second": row.second} if row.second else {})}

    def summary(self, rows: Sequence[Any], items: Sequence[Item], train: Sequence[Any]) -> Json:
        """See Medium."""
        sizes = [item.length for item in items]
        ids = np.concatenate([w.values for item in items for w in item.windows])
        return {
            "windows": sum(len(item.windows) for item in items),
            "words": sum(len(text.split()) for text in self.config.texts(rows)),
            "tokens": len(ids),
            "95 %": int(np.quantile(sizes, 0.95, method="higher")),
            "longest": max(sizes),
            "full": sum(item.windows[-1].length == self.config.batches.length for item in items),
            "unknown": int((ids == self.assets.tokenizer.unknown).sum()),
        }

    def seen(self, rows: Sequence[Any], looks: Sequence[Inspected], parameters: int) -> Seen:
        """The attention within texts."""
        return seen(looks, parameters)


class ImageMedium(Medium):
    """Images, all of one size."""

    inputs = ("image",)

    def __init__(self, config: Any, assets: Assets) -> None:
        super().__init__(config, assets)
        self.shape = Shape(**self.facts["sizes"], resample=self.facts.get("resample", BILINEAR))
        mean, deviation = (np.array(self.facts["scale"][name])[:, None, None] for name in ("mean", "deviation"))
        self.scale = Scale(mean.astype(np.float32), deviation.astype(np.float32))
        self.positions: int = config.model.sized(self.facts["sizes"]).embedder.positions
        self.beside: str = getattr(config.data, "beside", "")

    def named(self, inputs: Sequence[str]) -> list[str]:
        """The files themselves, and those of folders."""
        folders = {name for name in inputs if not (is_blank(name) or is_uri(name)) and Path(name).is_dir()}
        return [str(f) for name in inputs for f in (image_files(Path(name)) if name in folders else [name])]

    def row(self, example: Any) -> LabelledArray:
        """The path of a file, what `shown` gives of an image, or bytes (H W), (H W 3); in the size of the model."""
        (example,) = example if isinstance(example, tuple) else (example,)
        if self.beside and isinstance(example, str):
            image, *texts = example.split("\t")
            if len(texts) != 1 or is_blank(texts[0]):
                problem = f"there {'are several texts' if len(texts) > 1 else 'is no text'} beside the image"
                raise UsageError(problem, where=image[:80], cure="write IMAGE<TAB>TEXT")
            return replace(self._image(image), label=texts[0])
        return self._image(example)

    def sent(self, data: bytes, where: str) -> str:
        """The bytes of a file that others sent as an example: no path of theirs is ever read. Raises DataError."""
        return png_uri(fitted(image_of(data, replace(self.shape, size=0), where), self.shape, where))

    def address(self, row: LabelledArray) -> str:
        """See Medium."""
        return png_uri(row.values) + (f"\t{row.label}" if self.beside else "")

    def _image(self, example: Any) -> LabelledArray:
        if isinstance(example, str | Path):
            if is_blank(str(example)):
                raise UsageError("the name of an image is empty", cure="name a file")
            if is_uri(str(example)):
                return LabelledArray(from_uri(str(example)))
            pixels = read_image(Path(example), replace(self.shape, size=0))
            if {*pixels.shape[1:]} != {self.shape.size} and not self.lost:
                sizes = f"{self.shape.size} x {self.shape.size}"
                self.lost = f"images of other sizes are resized to {sizes}; the first: {example}, {said(pixels)}"
            return LabelledArray(fitted(pixels, self.shape, str(example)), where=str(example))
        array = np.asarray(example)
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            problem = f"not an image: {array.dtype} of {array.shape}"
            raise UsageError(problem, cure="give the path of a file, or bytes of (H, W) or (H, W, 3)")
        return LabelledArray(fitted(array[None] if array.ndim == 2 else array.transpose(2, 0, 1), self.shape, "image"))

    def windows(self, rows: Sequence[LabelledArray]) -> list[tuple[Window, ...]]:
        """See Medium. Raises DataError for an image of another size."""
        size, channels = self.shape.size, self.shape.channels
        for number, row in enumerate(rows, 1):
            if row.values.shape != (channels, size, size):
                cure = f"data.size = {size} resizes all images, data.channels = {channels} converts them"
                problem = f"an image of {said(row.values)}, and the model reads {channels} x {size} x {size}"
                raise DataError(problem, where=row.where or f"image {number}", cure=cure)
        more: Any = {"modality": "image", "positions": self.positions, "scale": self.scale}
        return [(Window(row.values, **more, beside=self._beside(row)),) for row in rows]

    def _beside(self, row: LabelledArray) -> Window | None:
        if not self.beside:
            return None
        tokenizer = self.assets.tokenizer
        return Window(np.append(tokenizer.encode([row.label])[0], tokenizer.end).astype(np.int32))

    def shown(self, row: LabelledArray) -> dict[str, str]:
        """The path of a file, or the image itself."""
        return {"image": row.where if row.where and Path(row.where).is_file() else png_uri(row.values)}

    def change(self) -> Change | None:
        """The augmentation of the config."""
        augment, labels = self.config.data.augment, len(self.facts.get("labels", ()))
        if augment == Augment():
            return None

        def changed(items: list[Item], random: np.random.Generator) -> list[Item]:
            windows = [item.windows[0] for item in items]
            values: Any = [augment(window.values, random) for window in windows]
            targets: Any = [item.targets for item in items]
            if labels and (augment.mixup or augment.cutmix):
                shares = np.eye(labels, dtype=np.float32)[np.array(targets)]
                values, targets = augment.mixed(np.stack(values), shares, random)
            each = zip(windows, values, targets, strict=True)
            return [Item((replace(window, values=pixels),), target) for window, pixels, target in each]

        return changed

    def summary(self, rows: Sequence[Any], items: Sequence[Item], train: Sequence[Any]) -> Json:
        """The form of the images, and the accuracy of the label of the nearest training image."""
        return {"images": said(rows[0].values), **neighbours(rows, train, lambda row: row.values)}

    def seen(self, rows: Sequence[Any], looks: Sequence[Inspected], parameters: int) -> Seen:
        """The attention over images."""
        parts = [
            image_attention(Path(row.where).name or f"Image {i}", row.values, weights)
            for i, (row, look) in enumerate(zip(rows, looks, strict=True), 1)
            if (weights := look.within("encoder")) is not None
        ]
        return Seen([], parameters, {"Images": join(parts)} if parts else {})


MEDIA: dict[str, type[Medium]] = {"text": TextMedium, "image": ImageMedium, "signal": SignalMedium}
"""The class of each modality."""
