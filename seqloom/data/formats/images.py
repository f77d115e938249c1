"""Labelled images: a folder for each label, IDX, NPZ, and tables of paths."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from seqloom.data.formats.arrays import MOST_BYTES, labels_in, named, npz_arrays
from seqloom.data.formats.labelled import TAB, read_examples
from seqloom.data.formats.lines import blocks, expand, file_format, is_blank, read_each
from seqloom.data.rows import LabelledArray
from seqloom.errors import DataError, SeqloomError, UsageError
from seqloom.media.images import SUFFIXES, DamagedImageError, Shape, fitted, read_image

_IDX = "idx3-ubyte"
_NPZ = "write numpy.savez(FILE, images=..., %s=...): bytes of (N, H, W) or (N, H, W, 3), and one of the others for each"


def read_images(
    paths: Sequence[str], shape: Shape, columns: tuple[str, str], names: Sequence[str], *, skip: bool = False
) -> list[LabelledArray]:
    """The images of some files and folders. Raises DataError or UsageError at the first fault.

    Args:
        paths: folders with a folder for each label; IDX files of images, with their labels beside them; .npz; tables.
        shape: the form they get.
        columns: the names of the columns of paths and labels in tables.
        names: the names of labels that are numbers, from 0; () = the labels are as written.
        skip: whether a damaged file becomes a row without pixels.
    """

    def read(path: Path) -> Iterator[LabelledArray]:
        for row in _rows(path, shape, columns, skip):
            yield LabelledArray(row.values, named(row.label, names, row.where), row.where)

    return read_each(paths, read, "has no labelled images", "name a folder that has a folder of images for each label")


def _rows(path: Path, shape: Shape, columns: tuple[str, str], skip: bool) -> Iterator[LabelledArray]:
    if path.is_dir():
        labels = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        return _files([(file, label.name, str(file)) for label in labels for file in image_files(label)], shape, skip)
    if path.suffix.lower() == ".npz":
        return _arrays(path, *_npz(path), shape)
    if file_format(path) in (".csv", ".tsv"):
        separator = "," if file_format(path) == ".csv" else TAB
        rows = read_examples([str(path)], dict(zip(("image", "label"), columns, strict=True)), True, separator)
        return _files([(path.parent / expand(row.text), row.label, row.where) for row in rows], shape, skip)
    if _IDX in path.name:
        labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        return _arrays(path, _idx(path, 3), _idx(labels_path, 1), shape)
    cure = "name a folder, FILE-idx3-ubyte.gz, .npz, or a .csv or .tsv of paths and labels"
    raise UsageError("not a file of labelled images", where=str(path), cure=cure)


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name. Raises UsageError where there is none."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not files:
        cure = f"name one that has: {', '.join(SUFFIXES)}"
        raise UsageError("there are no images in this folder", where=str(folder), cure=cure)
    return files


def named_arrays(path: Path, shape: Shape) -> Iterator[tuple[str, np.ndarray]]:
    """The names and images of an .npz file. Raises DataError for a name that occurs twice."""
    names = set[str]()
    for row in _arrays(path, *_npz(path, "names"), shape):
        if row.label in names:
            raise DataError(f"two images have the name {row.label!r}", where=row.where, cure="give each its own")
        names.add(row.label)
        yield row.label, row.values


def _files(files: Sequence[tuple[Path, str, str]], shape: Shape, skip: bool) -> Iterator[LabelledArray]:
    for path, label, where in files:
        try:
            yield LabelledArray(read_image(path, shape), label, str(path))
        except SeqloomError as error:
            if not skip or not isinstance(error, DamagedImageError):
                if where == str(path):
                    raise
                raise type(error)(f"{path}: {error.problem}", where=where, cure=error.cure) from None
            yield LabelledArray(np.zeros((0, 0, 0), dtype=np.uint8), label, where)


def _arrays(path: Path, images: np.ndarray, labels: np.ndarray, shape: Shape) -> Iterator[LabelledArray]:
    names = labels_in(labels, len(images), "images", path)
    if 0 in images.shape[1:]:
        problem = f"images of {images.shape[2]} x {images.shape[1]} pixels"
        raise DataError(problem, where=str(path), cure="name a file of images that have pixels")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    for i, (pixels, label) in enumerate(zip(images, names, strict=True)):
        where = f"{path}:{i + 1}"
        if is_blank(label):
            raise DataError("an image whose label or name is blank", where=where, cure="give it one")
        yield LabelledArray(fitted(np.ascontiguousarray(pixels), shape, where), label, where)


def _npz(path: Path, beside: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    cure = _NPZ % beside
    arrays = npz_arrays(path, f"images and {beside}", cure)
    if missing := {"images", beside} - arrays.keys():
        raise DataError(f"has no {' and no '.join(sorted(missing))}", where=str(path), cure=cure)
    images, labels = arrays["images"], arrays[beside]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(f"its images are {images.dtype} of {images.shape}", where=str(path), cure=cure)
    return images, labels


def _idx(path: Path, axes: int) -> np.ndarray:
    """The array of bytes of an IDX file (yann.lecun.com/exdb/mnist: 0 0, type 8 = bytes, axes, sizes, values)."""
    data = bytearray()
    size, head = MOST_BYTES, 4 + 4 * axes
    for block in blocks(path):
        data += block
        if size == MOST_BYTES and len(data) >= head:
            if data[:4] != bytes((0, 0, 8, axes)):
                problem = f"begins with {bytes(data[:4]).hex(' ')} instead of 00 00 08 0{axes}"
                raise DataError(problem, where=str(path), cure="name a whole IDX file of bytes")
            sizes = struct.unpack(f">{axes}I", data[4:head])
            size = min(head + int(np.prod(sizes, dtype=object)), MOST_BYTES + 1)
        if len(data) > size:
            break
    if len(data) != size:
        problem = f"has {len(data):,} bytes, and {size:,} by its header"
        raise DataError(problem, where=str(path), cure="download it again")
    return np.frombuffer(bytes(data), dtype=np.uint8, offset=head).reshape(sizes)
