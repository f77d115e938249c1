from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from seqloom.data.formats.lines import expand, read_lines
from seqloom.errors import DataError, UsageError

PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


class TestBytes:
    @pytest.mark.parametrize(
        ("content", "hint"),
        [("a\n".encode("utf-16"), "UTF-16"), (gzip.compress(b"a\n", mtime=0), ".gz"), (lzma.compress(b"a\n"), ".xz")],
    )
    def test_known_first_bytes_are_named(self, tmp_path, content, hint):
        with pytest.raises(DataError) as caught:
            read_lines(write(tmp_path / "a", content))
        assert hint in caught.value.cure

    def test_encoded_surrogates_are_not_utf8(self, tmp_path):
        with pytest.raises(DataError, match="0xed"):
            read_lines(write(tmp_path / "a", b"\xed\xa0\x80\n"))

    def test_nul(self, tmp_path):
        with pytest.raises(DataError) as caught:
            read_lines(write(tmp_path / "a", "fine\nab\0c\n"))
        assert caught.value.where.endswith("a:2")
        assert "column 3" in caught.value.problem

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    @pytest.mark.parametrize("bom", ["", "\ufeff"])
    def test_the_longest_line(self, tmp_path, end, bom):
        path = write(tmp_path / "a", f"{bom}12345{end}")
        assert read_lines(path, max_bytes=5) == ["12345"]
        with pytest.raises(DataError) as caught:
            read_lines(path, max_bytes=4)
        assert caught.value.where == f"{path}:1"


class TestPaths:
    def test_missing_file(self, tmp_path):
        write(tmp_path / "train.en", "a\n")
        with pytest.raises(UsageError) as caught:
            read_lines(str(tmp_path / "trian.en"))
        assert "train.en" in caught.value.cure
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("name", ["no/such/folder/x", "nul\0name", "x" * 5000])
    def test_impossible_path(self, tmp_path, name):
        with pytest.raises(UsageError):
            read_lines(f"{tmp_path}/{name}")

    @pytest.mark.parametrize("content", ["", "\ufeff"])
    def test_empty_file(self, tmp_path, content):
        with pytest.raises(DataError, match="empty") as caught:
            read_lines(write(tmp_path / "a", content))
        assert caught.value.exit_code == 3

    def test_folder(self, tmp_path):
        with pytest.raises(UsageError, match="folder"):
            read_lines(str(tmp_path))

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = write(tmp_path / "a", "a\n")
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(UsageError, match="Permission denied"):
            read_lines(path)

    @pytest.mark.parametrize("pack", [".gz", ".xz"])
    def test_damaged_archives(self, tmp_path, pack):
        whole = PACKERS[pack](bytes(range(1, 10)) * 20_000 + b"\n")
        bent = whole[: len(whole) // 2] + b"\xff" * 20 + whole[len(whole) // 2 + 20 :]
        for content in (whole[:-9], whole[:20], bent, b"plain text\n"):
            path = tmp_path / f"a{pack}"
            path.write_bytes(content)
            with pytest.raises(DataError) as caught:
                read_lines(str(path))
            assert caught.value.where == str(path)

    def test_variables(self, tmp_path, monkeypatch):
        write(tmp_path / "a", "x\n")
        monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
        assert read_lines("${SOME_FOLDER}/a") == read_lines("$SOME_FOLDER/a") == ["x"]

    @pytest.mark.parametrize("value", [None, ""])
    def test_an_unset_variable_is_named_with_its_cure(self, monkeypatch, value):
        monkeypatch.delenv("SOME_FOLDER", raising=False)
        if value is not None:
            monkeypatch.setenv("SOME_FOLDER", value)
        with pytest.raises(UsageError, match="SOME_FOLDER is not set") as caught:
            read_lines("${SOME_FOLDER}/a")
        assert "export SOME_FOLDER=" in caught.value.cure

    def test_a_dollar_in_a_name_that_exists(self, tmp_path):
        assert read_lines(write(tmp_path / "a$b", "x\n")) == ["x"]

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert expand("~/a") == tmp_path / "a"
