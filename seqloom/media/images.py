"""Images as arrays of bytes (N H W): decoded through Pillow (the extra "vision"), resized, shown as PNG in pages."""

from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seqloom.errors import DataError, UsageError, optional
from seqloom.limits import check_regular

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
"""The names of files that are images."""
MOST_PIXELS = 50_000_000
"""The most pixels of an image; what has more in its header is not decoded."""
BILINEAR = 2
_MODES = {1: "L", 3: "RGB"}
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_PNG = "data:image/png;base64,"


@dataclass(frozen=True)
class Shape:
    """The form of images as a model reads them.

    Args:
        size: their height and width; 0 = as they are.
        channels: 1 for grey, 3 for red, green and blue; 0 = as they are, which must be one of the two.
        resample: how Pillow interpolates; 2 = bilinear.
    """

    size: int = 0
    channels: int = 0
    resample: int = BILINEAR


def pillow() -> Any:
    """Pillow's module of images. Raises MissingExtra."""
    return optional("PIL.Image", "reading and resizing images", "vision")


def read_image(path: Path, shape: Shape) -> np.ndarray:
    """The pixels of a file, upright. Raises DataError for one that is damaged, too large or of another mode."""
    check_regular(path)
    return _decoded(path, shape, str(path))


def image_of(data: bytes, shape: Shape, where: str) -> np.ndarray:
    """The same of the bytes of a file that others sent, in one of the common formats."""
    return _decoded(io.BytesIO(data), shape, where, _COMMON)


_COMMON = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def _decoded(file: Path | BinaryIO, shape: Shape, where: str, formats: Sequence[str] | None = None) -> np.ndarray:
    images = pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about size and odd fields
            with images.open(file, formats=formats) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise _too_large(where, f"{image.width:,} x {image.height:,} pixels")
                image.load()
                return _pixels(optional("PIL.ImageOps", "images", "vision").exif_transpose(image), shape, where)
    except images.DecompressionBombError:
        raise _too_large(where, f"more than {2 * images.MAX_IMAGE_PIXELS:,} pixels") from None
    except FileNotFoundError:
        raise UsageError("no such file", where=where, cure="check its path") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:  # of the system; Pillow gives none
            raise UsageError(f"cannot be read: {error.strerror}", where=where, cure="name a file of an image") from None
        detail = f": {error}" if isinstance(file, Path) else ""  # else it would name an object of ours
        raise DamagedImageError(
            f"not a whole image{detail}", where=where, cure=f"remove or replace it; {_SKIP}"
        ) from None


_SKIP = "in training data, data.damaged = 'skip' leaves such files out"


class DamagedImageError(DataError):
    """A file that is no image, only a part of one, or too large."""


def _too_large(where: str, size: str) -> DamagedImageError:
    problem = f"has {size}; the most is {MOST_PIXELS:,}, and it was not decoded"
    return DamagedImageError(problem, where=where, cure=f"make it smaller; {_SKIP}")


def _pixels(image: Any, shape: Shape, where: str) -> np.ndarray:
    mode = _MODES.get(shape.channels, image.mode)
    if image.mode not in _CONVERTIBLE or mode not in _MODES.values():
        cure = "convert it to 8 bits of grey or of red, green and blue"
        if image.mode in _CONVERTIBLE:
            cure = "data.channels = 3 converts all images to red, green and blue, 1 to grey"
        raise DataError(f"an image of the mode {image.mode}", where=where, cure=cure)
    image = image.convert(mode)
    if shape.size and image.size != (shape.size, shape.size):
        image = image.resize((shape.size, shape.size), shape.resample)
    array = np.asarray(image)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def fitted(pixels: np.ndarray, shape: Shape, where: str) -> np.ndarray:
    """Pixels (N H W) in a form. Raises DataError."""
    wanted = (shape.channels or len(pixels), *((shape.size,) * 2 if shape.size else pixels.shape[1:]))
    if pixels.shape == wanted:
        return pixels
    if len(pixels) not in _MODES:
        raise DataError(f"an image of {len(pixels)} channels", where=where, cure="give one or three")
    image = pillow().fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    return _pixels(image, shape, where)


def said(pixels: np.ndarray) -> str:
    """The form of pixels (N H W) in words: "28 x 28 in grey"."""
    colours = {1: "grey", 3: "colours"}.get(len(pixels), f"{len(pixels)} channels")
    return f"{pixels.shape[2]:,} x {pixels.shape[1]:,} in {colours}"


def png_uri(pixels: np.ndarray) -> str:
    """Pixels (N H W) of 1 or 3 channels as a PNG in a data: address."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels, height, width = pixels.shape
    rows = pixels.transpose(1, 2, 0).reshape(height, width * channels)
    filtered = np.concatenate((np.zeros((height, 1), dtype=np.uint8), rows), 1)  # each row has the filter 0
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9)), chunk(b"IEND", b"")
    return _PNG + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def is_uri(text: str) -> bool:
    """Whether a text is an address made by `png_uri`."""
    return text.startswith(_PNG)


def from_uri(text: str) -> np.ndarray:
    """The pixels of what `png_uri` made. Raises DataError for anything else."""
    try:
        data = io.BytesIO(base64.b64decode(text.removeprefix(_PNG)))
        width, height, _, colour = struct.unpack(">IIBB", data.read(26)[16:])
        data.seek(33)
        (length,) = struct.unpack(">I", data.read(8)[:4])
        channels = 3 if colour else 1
        rows = np.frombuffer(zlib.decompress(data.read(length)), dtype=np.uint8).reshape(height, 1 + width * channels)
        return rows[:, 1:].reshape(height, width, channels).transpose(2, 0, 1)
    except (ValueError, struct.error, zlib.error):
        raise DataError("not an image written by seqloom", cure="name a file") from None
