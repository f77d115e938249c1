"""Pixels of files, and back."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from seqloom.errors import DataError, UsageError
from seqloom.media.augment import Augment
from seqloom.media.images import DamagedImageError, Shape, fitted, from_uri, is_uri, png_uri, read_image

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no file is decoded")
RANDOM = np.random.default_rng(1)


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_comes_back_here_and_through_pillow(channels: int, tmp_path: Path) -> None:
    import base64
    import io

    image = pixels(channels, 5, 7)
    uri = png_uri(image)
    assert is_uri(uri)
    np.testing.assert_array_equal(from_uri(uri), image)
    opened = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    np.testing.assert_array_equal(opened, image[0] if channels == 1 else image.transpose(1, 2, 0))
    with pytest.raises(DataError, match="not an image written by seqloom"):
        from_uri(uri[:60])


def test_modes_and_sizes(tmp_path: Path) -> None:
    for name, form in {"grey": (7, 5), "rgb": (7, 5, 3), "rgba": (7, 5, 4)}.items():
        Image.fromarray(pixels(*form)).save(tmp_path / f"{name}.png")
    assert read_image(tmp_path / "grey.png", Shape()).shape == (1, 7, 5)
    assert read_image(tmp_path / "rgb.png", Shape()).shape == (3, 7, 5)
    assert read_image(tmp_path / "rgb.png", Shape(11, 1)).shape == (1, 11, 11)
    assert read_image(tmp_path / "rgba.png", Shape(channels=3)).shape == (3, 7, 5)
    with pytest.raises(DataError, match=r"rgba.png: an image of the mode RGBA\n  data.channels = 3 converts"):
        read_image(tmp_path / "rgba.png", Shape())
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="of the mode I;16"):
        read_image(tmp_path / "deep.png", Shape(channels=1))
    with pytest.raises(DataError, match="an image of 2 channels"):
        fitted(pixels(2, 4, 4), Shape(4, 3), "x")


def test_a_photograph_is_upright(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(4, 6))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", Shape()).shape == (1, 6, 4)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", None])
def test_damaged_files_are_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    if content is None:  # cut off
        Image.fromarray(pixels(40, 40)).save(path)
        content = path.read_bytes()[:200]
    path.write_bytes(content)
    with pytest.raises(DamagedImageError, match=r"bad.png: not a whole image"):
        read_image(path, Shape())


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_a_bomb_is_not_decoded(side: int, tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    message = r"has [a-z0-9, ]+ pixels; the most is 50,000,000, and it was not decoded\n  make it smaller; .*'skip'"
    with pytest.raises(DamagedImageError, match=message):
        read_image(path, Shape())


def test_no_file_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_image(Path("nowhere.png"), Shape())
    with pytest.raises(UsageError, match=r": cannot be read: .*directory\n  name a file"):
        read_image(tmp_path, Shape())


def test_without_pillow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(UsageError, match=r"pip install 'seqloom\[vision\]'"):
        read_image(Path("x.png"), Shape())


def test_crops_and_flips_move_pixels_only() -> None:
    image = np.arange(2 * 5 * 5, dtype=np.uint8).reshape(2, 5, 5)
    seen = {Augment(crop=1, flip=True)(image, np.random.default_rng(i)).tobytes() for i in range(300)}
    assert len(seen) == 9 * 2
    expected = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="symmetric")[:, 2:7, 0:5][:, :, ::-1]
    assert expected.tobytes() in seen
    np.testing.assert_array_equal(Augment()(image, np.random.default_rng(1)), image)


def test_operations_change_images_and_not_their_form() -> None:
    image, augment = pixels(3, 9, 9), Augment(operations=2, strength=1.0)
    results = [augment(image, np.random.default_rng(i)) for i in range(60)]
    assert all(r.shape == image.shape and r.dtype == np.uint8 for r in results)
    assert len({r.tobytes() for r in results}) > 50
    still = Augment(operations=3, strength=0.0)
    np.testing.assert_array_equal(still(image, np.random.default_rng(2)), image)


def test_mixtures_have_the_shares_of_their_labels() -> None:
    images = np.stack([np.full((1, 8, 8), 10 * i, dtype=np.uint8) for i in range(6)])
    shares = np.eye(6, dtype=np.float32)
    mixed, labels = Augment(mixup=1.0).mixed(images, shares, np.random.default_rng(1))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], labels @ (10 * np.arange(6)), atol=0.5)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    for seed in range(20):
        cut, labels = Augment(cutmix=1.0).mixed(images, shares, np.random.default_rng(seed))
        np.testing.assert_allclose(cut.mean((1, 2, 3)), labels @ (10 * np.arange(6)), atol=1e-4)
        assert set(np.unique(cut)) <= {10 * i for i in range(6)}
