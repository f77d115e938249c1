"""Labelled images in the files people have: folders, IDX, NPZ and tables; and what is wrong with them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from seqloom.data.formats.images import read_images
from seqloom.data.formats.series import Layout
from seqloom.data.rows import LabelledArray, digest_rows
from seqloom.data.sources.images import ImageFiles, SmallDigits
from seqloom.data.sources.signals import SignalFiles
from seqloom.errors import DataError, SeqloomError, UsageError
from seqloom.media.images import Shape

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 4, 4), dtype=np.uint8)
LABELS = [0, 1, 2, 1, 0]
NAMES = ("shirt", "shoe", "bag")


def read(*paths: Path, names: tuple[str, ...] = (), size: int = 0, skip: bool = False) -> list[LabelledArray]:
    return read_images([str(path) for path in paths], Shape(size), ("path", "kind"), names, skip=skip)


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    images, labels = tmp_path / "a-images-idx3-ubyte.gz", tmp_path / "a-labels-idx1-ubyte.gz"
    images.write_bytes(gzip.compress(idx(PIXELS)))
    labels.write_bytes(gzip.compress(idx(np.array(LABELS, dtype=np.uint8))))
    return images


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("PIL.Image", reason="Pillow is not installed").fromarray(pixels).save(path)


def refused(message: str, *paths: Path, error: type[SeqloomError] = DataError, **options: object) -> None:
    with pytest.raises(error, match=message):
        read(*paths, **options)  # type: ignore[arg-type]


def test_idx_and_npz_hold_the_same(archive: Path, tmp_path: Path) -> None:
    rows = read(archive, names=NAMES)
    assert [row.label for row in rows] == ["shirt", "shoe", "bag", "shoe", "shirt"]
    assert [row.values.tobytes() for row in rows] == [p.tobytes() for p in PIXELS]
    assert rows[2].where == f"{archive}:3"
    np.savez(tmp_path / "b.npz", images=PIXELS, labels=np.array(LABELS))
    np.savez(tmp_path / "c.npz", images=PIXELS[..., None], labels=np.array([NAMES[i] for i in LABELS]))
    digest = digest_rows(rows)
    assert digest == digest_rows(read(tmp_path / "b.npz", names=NAMES)) == digest_rows(read(tmp_path / "c.npz"))
    assert digest != digest_rows(read(tmp_path / "b.npz"))
    assert digest != digest_rows([LabelledArray(row.values ^ 1, row.label) for row in rows])
    np.savez(tmp_path / "d.npz", images=np.stack([PIXELS] * 3, -1), labels=np.array(LABELS))
    assert read(tmp_path / "d.npz")[4].values.shape == (3, 4, 4)


def test_folders_and_tables_hold_the_same(tmp_path: Path) -> None:
    lines = []
    for i, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        save(tmp_path / "all" / NAMES[label] / f"{i}.png", pixels)
        lines.append(f"all/{NAMES[label]}/{i}.png")
    (tmp_path / "all" / "bag" / "notes.txt").write_text("no image", encoding="utf-8")
    save(tmp_path / "all" / ".checkpoints" / "0.png", PIXELS[0])
    rows = read(tmp_path / "all")
    assert [(row.label, row.where.rpartition("/")[2]) for row in rows] == [
        ("bag", "2.png"),
        ("shirt", "0.png"),
        ("shirt", "4.png"),
        ("shoe", "1.png"),
        ("shoe", "3.png"),
    ]
    for name, sign in (("t.tsv", "\t"), ("t.csv", ",")):
        cell = '"{}"' if sign == "," else "{}"
        table = "".join(f"{cell.format(path)}{sign}{path.split('/')[1]}\n" for path in lines)
        (tmp_path / name).write_text(f"path{sign}kind\n{table}", encoding="utf-8")
        listed = read(tmp_path / name)
        assert [row.values.tobytes() for row in listed] == [p.tobytes() for p in PIXELS]
    assert {row.where: row.label for row in read(tmp_path / "t.csv")} == {row.where: row.label for row in rows}


def test_damaged_files_are_named_or_become_rows_without_pixels(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "all" / "bag" / f"{i}.png", PIXELS[i])
    (tmp_path / "all" / "bag" / "1.png").write_bytes(b"damaged")
    refused(r"1.png: not a whole image", tmp_path / "all")
    assert [row.values.size for row in read(tmp_path / "all", skip=True)] == [16, 0, 16]


def test_faulty_tables_and_names_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"

    def of(*lines: str) -> Path:
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return table

    refused("t.csv:3: .*no.png: no such file", of("path,kind", "", "no.png,a"), error=UsageError)
    refused("t.csv:1: columns 1 and 3 are both called 'kind'", of("kind,path,kind", "a,x.png,b"))
    refused(r"no column 'path'\n  choose it with --data.image COLUMN; ", of("file,kind", "x.png,b"))
    refused("none: no such file", tmp_path / "none", error=UsageError)
    with pytest.raises(UsageError, match="the name of a file is empty"):
        read_images([""], Shape(), ("path", "kind"), ())


def test_other_sizes_are_refused_or_resized(archive: Path, tmp_path: Path) -> None:
    save(tmp_path / "all" / "bag" / "0.png", PIXELS[0])
    save(tmp_path / "all" / "bag" / "1.png", np.zeros((5, 4), dtype=np.uint8))
    source = ImageFiles((str(tmp_path / "all"),))
    with pytest.raises(DataError, match=r"1.png: an image of 4 x 5 in grey, and .*0.png is 4 x 4 in grey"):
        source.learned(source.read(source.train))
    assert {row.values.shape for row in read(tmp_path / "all", size=6)} == {(1, 6, 6)}
    oblong = [LabelledArray(np.zeros((1, 4, 5), dtype=np.uint8))]
    with pytest.raises(DataError, match="not square"):
        source.learned(oblong)


def test_labels_out_of_range_and_of_other_numbers(archive: Path, tmp_path: Path) -> None:
    refused(r"a-images-idx3-ubyte.gz:3: the label '2' is out of range\n.* 0 to 1", archive, names=NAMES[:2])
    for name, labels in {"few": LABELS[:3], "floats": [0.5] * 5, "below": [-1] * 5, "table": [[1]] * 5}.items():
        np.savez(tmp_path / f"{name}.npz", images=PIXELS, labels=np.array(labels))
    refused("5 images and 3 labels", tmp_path / "few.npz")
    refused("its labels are float64", tmp_path / "floats.npz")
    refused("the label '-1' is out of range", tmp_path / "below.npz", names=NAMES)
    refused("its labels are int64 of", tmp_path / "table.npz")
    np.savez(tmp_path / "blank.npz", images=PIXELS, labels=np.array(["a", "b", " ", "a", "b"]))
    refused("blank.npz:3: an image whose label or name is blank", tmp_path / "blank.npz")


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a", " ", "b")])
def test_names_of_labels_differ(names: tuple[str, ...]) -> None:
    for source in (ImageFiles, Layout, SignalFiles):
        with pytest.raises(ValueError, match="names must differ, and none be blank, but that of the label 1 is"):
            source(names=names)


def test_other_and_damaged_archives(archive: Path, tmp_path: Path) -> None:
    whole = gzip.decompress(archive.read_bytes())
    for content, message in (
        (gzip.compress(whole[:-1]), "has 95 bytes, and 96 by its header"),
        (gzip.compress(whole + b"x"), "bytes, and 96 by its header"),
        (gzip.compress(b"PK\3\4" + whole[4:]), "begins with 50 4b 03 04 instead of 00 00 08 03"),
        (gzip.compress(whole[:4] + b"\xff" * 12 + whole[16:]), "by its header"),
        (archive.read_bytes()[:-20], "damaged or cut off"),
        (gzip.compress(b""), "by its header"),
    ):
        archive.write_bytes(content)
        refused(message, archive)
    archive.write_bytes(gzip.compress(idx(PIXELS[:, :0, :0])))
    refused("gz: images of 0 x 0 pixels", archive)
    (tmp_path / "x.npz").write_bytes(b"no archive")
    refused("not an .npz of images and labels", tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", pictures=PIXELS)
    refused("'images is not a file in the archive'|images", tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", images=PIXELS.astype(float), labels=np.array(LABELS))
    refused("its images are float64", tmp_path / "z.npz")
    np.savez(tmp_path / "o.npz", images=PIXELS, labels=np.array([object()] * 5))
    refused("not an .npz of images and labels", tmp_path / "o.npz")
    refused("no such file", tmp_path / "none.npz", error=UsageError)
    (tmp_path / "x.txt").write_text("x", encoding="utf-8")
    refused("not a file of labelled images", tmp_path / "x.txt", error=UsageError)
    (tmp_path / "empty").mkdir()
    refused("has no labelled images", tmp_path / "empty")


def test_the_scale_is_that_of_each_channel() -> None:
    rows = [LabelledArray(np.stack([p, 255 - p])) for p in PIXELS]
    facts = ImageFiles().learned(rows)
    values = PIXELS.astype(float)
    assert facts["sizes"] == {"size": 4, "channels": 2}
    np.testing.assert_allclose(facts["scale"]["mean"], [values.mean(), 255 - values.mean()])
    np.testing.assert_allclose(facts["scale"]["deviation"], [values.std()] * 2)
    even = [LabelledArray(np.full((1, 4, 4), 7, dtype=np.uint8))]
    assert ImageFiles().learned(even)["scale"] == {"mean": [7.0], "deviation": [1.0]}


def test_the_digits_are_split_once() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    source = SmallDigits()
    train, test = source.read(source.train), source.read(source.test)
    assert (len(train), len(test)) == (1438, 359)
    assert not {row.where for row in train} & {row.where for row in test}
    assert {row.label for row in test} == set("0123456789")
    assert train[0].values.shape == (1, 8, 8)
    assert train[0].values.max() > 200
