"""Random changes of images (N H W) that keep their label, and mixtures of two images with two labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from seqloom.limits import Bounded, Bounds, Share

Alpha = Annotated[float, Bounds(0, 100)]


@dataclass(frozen=True)
class Augment(Bounded):
    """How the training images of each batch are changed at random.

    Args:
        crop: the pixels by which an image is moved at most, in each direction; its mirror image fills what is left.
        flip: whether half of the images are mirrored, left to right.
        operations: how many of these are done to each image: rotate, shear, move, brighten, contrast, posterize,
            solarize (a subset of RandAugment: Cubuk et al. 2020).
        strength: of these, as a share of the strongest.
        mixup: alpha of the distribution of the shares in which two images are mixed (Zhang et al. 2018); 0 = never.
        cutmix: the same for rectangles of another image that are put into one (Yun et al. 2019); with both, each in
            half of the batches.
    """

    crop: Annotated[int, Bounds(0, 1000)] = 0
    flip: bool = False
    operations: Annotated[int, Bounds(0, 10)] = 0
    strength: Share = 0.5
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One image, changed."""
        if self.crop:
            _, height, width = pixels.shape
            around = np.pad(pixels, ((0, 0), (self.crop,) * 2, (self.crop,) * 2), mode="symmetric")
            y, x = random.integers(0, 2 * self.crop + 1, 2)
            pixels = around[:, y : y + height, x : x + width]
        if self.flip and random.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        for k in random.integers(0, len(_OPERATIONS), self.operations):
            pixels = _OPERATIONS[k](pixels, self.strength * random.uniform(-1, 1))
        return pixels

    def mixed(
        self, pixels: np.ndarray, shares: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A batch of images (B N H W) and the shares of their labels (B L), both mixed with those in another order."""
        cut = self.cutmix and (not self.mixup or random.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        share, order = random.beta(alpha, alpha), random.permutation(len(pixels))
        if not cut:
            mean = share * pixels + (1 - share) * pixels[order]
            return np.rint(mean).astype(np.uint8), share * shares + (1 - share) * shares[order]
        _, _, height, width = pixels.shape
        sides = np.sqrt(1 - share) * np.array([height, width])
        centre = random.uniform(0, (height, width))
        (y0, x0), (y1, x1) = (
            np.rint(centre + half * sides / 2).clip(0, (height, width)).astype(int) for half in (-1, 1)
        )
        pixels = pixels.copy()
        pixels[:, :, y0:y1, x0:x1] = pixels[order][:, :, y0:y1, x0:x1]
        share = 1 - (y1 - y0) * (x1 - x0) / (height * width)
        return pixels, share * shares + (1 - share) * shares[order]


def _affine(pixels: np.ndarray, matrix: tuple[float, float, float, float], move: tuple[float, float]) -> np.ndarray:
    """Each pixel from the nearest of (y, x) = matrix (y', x') + move, from the centre; beyond the edge, its colour."""
    _, height, width = pixels.shape
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    rows = np.rint(matrix[0] * y + matrix[1] * x + move[0] * height + (height - 1) / 2).astype(int)
    columns = np.rint(matrix[2] * y + matrix[3] * x + move[1] * width + (width - 1) / 2).astype(int)
    moved: np.ndarray = pixels[:, rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return moved


def _rotated(pixels: np.ndarray, by: float) -> np.ndarray:
    angle = by * np.pi / 6
    return _affine(pixels, (np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)), (0, 0))


def _contrasted(pixels: np.ndarray, by: float) -> np.ndarray:
    mean = pixels.mean()
    changed: np.ndarray = (mean + (1 + 0.9 * by) * (pixels - mean)).clip(0, 255).astype(np.uint8)
    return changed


_OPERATIONS: tuple[Callable[[np.ndarray, float], np.ndarray], ...] = (
    _rotated,
    lambda pixels, by: _affine(pixels, (1, 0.3 * by, 0, 1), (0, 0)),
    lambda pixels, by: _affine(pixels, (1, 0, 0.3 * by, 1), (0, 0)),
    lambda pixels, by: _affine(pixels, (1, 0, 0, 1), (0.3 * by, 0)),
    lambda pixels, by: _affine(pixels, (1, 0, 0, 1), (0, 0.3 * by)),
    lambda pixels, by: ((1 + 0.9 * by) * pixels).clip(0, 255).astype(np.uint8),
    _contrasted,
    lambda pixels, by: pixels & np.uint8(0xFF << int(4 * abs(by)) & 0xFF),
    lambda pixels, by: np.where(pixels >= 256 - 128 * abs(by), 255 - pixels, pixels),
)
"""The changes by -1 to 1, where 0 changes nothing."""
