from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.batches import shards as module
from seqloom.data.batches.shards import Joined, Keeping, find_shards, write_shards
from seqloom.data.batches.stream import encode_text
from seqloom.data.rows import Text
from seqloom.data.sources.text import Source, text_source
from seqloom.text.tokenizer import BPE, Tokenizer
from seqloom.text.training import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(BPE(size=280), ["ba ko mi"])


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A text of 60 lines, encoded ten at a time."""
    monkeypatch.setattr("seqloom.data.rows._BLOCK_LINES", 10)
    (tmp_path / "a.txt").write_text("".join(f"ba ko {n}\n" + "\n" * (n % 7 == 0) for n in range(60)))
    return text_source([str(tmp_path / "a.txt")])


def written(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=6), st.data())
def test_several_rows_are_as_one(parts, data):
    joined, whole = Joined([np.array(part) for part in parts]), np.concatenate(parts)
    at = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=6, max_size=6))).reshape(2, 3)
    assert len(joined) == len(whole)
    assert np.array_equal(joined[at], whole[at])


@settings(max_examples=20)
@given(texts=st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=20), min_size=1), room=st.integers(1, 40))
def test_shards_are_the_whole_text(tmp_path_factory, tokenizer, texts, room):
    folder = tmp_path_factory.mktemp("shards")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": f"x{text}"}) + "\n" for text in texts))
    source = text_source([str(folder / "a.jsonl")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqloom.data.rows._BLOCK_LINES", 3)
        shards = write_shards(source, tokenizer, Keeping(folder / "shards", room=room))
        ids, lines = encode_text(Text.of(source), tokenizer)
    at = np.arange(len(ids))
    assert (len(shards.ids), len(shards.lines)) == (len(ids), len(ids))
    assert np.array_equal(shards.ids[at], ids)
    assert np.array_equal(shards.lines[at], lines)
    assert shards.digest == Text.of(source).digest()
    assert {array.dtype for array in shards.ids.parts} == {np.dtype(np.uint16)}
    assert all(len(array) >= room for array in shards.ids.parts[:-1])


def test_what_was_broken_off_goes_on_at_the_last_whole_shard(tmp_path, source, tokenizer, monkeypatch):
    def broken(block, tokenizer):
        if any(number > 40 for _, number in block):
            raise KeyboardInterrupt
        return encode(block, tokenizer)

    encode, folder = module.encode_block, tmp_path / "shards"
    whole = write_shards(source, tokenizer, Keeping(tmp_path / "other", room=60))
    with monkeypatch.context() as patch:
        patch.setattr(module, "encode_block", broken)
        with pytest.raises(KeyboardInterrupt):
            write_shards(source, tokenizer, Keeping(folder, room=60))
    assert find_shards(folder, source, tokenizer) is None
    before = written(folder)
    assert 0 < len(before) < 2 * len(whole.ids.parts)
    reports: list[tuple[float, int]] = []
    shards = write_shards(source, tokenizer, Keeping(folder, room=60, report=lambda *done: reports.append(done)))
    at = np.arange(len(whole.ids))
    assert np.array_equal(shards.ids[at], whole.ids[at])
    assert np.array_equal(shards.lines[at], whole.lines[at])
    assert {name: time for name, time in written(folder).items() if name in before} == before
    assert len(written(folder)) == 2 * len(whole.ids.parts)


def test_a_changed_text_is_noticed_and_only_what_follows_is_encoded_anew(tmp_path, source, tokenizer):
    folder, path = tmp_path / "shards", source.files[0]
    first = write_shards(source, tokenizer, Keeping(folder, room=60))
    before = written(folder)
    assert find_shards(folder, source, tokenizer).digest == first.digest
    os.utime(path, ns=(1, 1))  # touched, not changed
    assert find_shards(folder, source, tokenizer).digest == first.digest
    path.write_text(path.read_text().replace("ba ko 40", "ba ko 41"))
    assert find_shards(folder, source, tokenizer) is None
    second = write_shards(source, tokenizer, Keeping(folder, room=60))
    assert second.digest == Text.of(source).digest() != first.digest
    assert np.array_equal(second.ids[np.arange(len(second.ids))], encode_text(Text.of(source), tokenizer)[0])
    kept = [name for name, time in written(folder).items() if before.get(name) == time]
    assert 0 < len(kept) < len(before)


def test_other_documents_are_another_text(tmp_path, source, tokenizer):
    write_shards(source, tokenizer, Keeping(tmp_path / "shards", room=60))
    lines = text_source([str(path) for path in source.files], ["lines"] * len(source.files))
    assert find_shards(tmp_path / "shards", lines, tokenizer) is None


@pytest.mark.parametrize("name", ["00001/ids.npy", "00001/lines.npy", "00001/MANIFEST.json", "corpus.json"])
def test_damaged_and_missing_shards_are_made_again(tmp_path, source, tokenizer, name):
    folder = tmp_path / "shards"
    at = np.arange(len(write_shards(source, tokenizer, Keeping(folder, room=60)).ids))
    (folder / name).write_bytes(b"{")
    assert find_shards(folder, source, tokenizer) is None
    again = write_shards(source, tokenizer, Keeping(folder, room=60))
    assert np.array_equal(again.ids[at], encode_text(Text.of(source), tokenizer)[0])
    assert find_shards(folder, source, tokenizer) is not None


def test_another_tokenizer_needs_other_shards(tmp_path, source, tokenizer):
    write_shards(source, tokenizer, Keeping(tmp_path, room=60))
    other = train_tokenizer(BPE(size=270), ["mi ko"])
    assert find_shards(tmp_path, source, other) is None
    shards = write_shards(source, other, Keeping(tmp_path, room=60))
    assert np.array_equal(shards.ids[np.arange(len(shards.ids))], encode_text(Text.of(source), other)[0])


def test_nothing_is_written_before_the_check(tmp_path, source, tokenizer):
    def refuse(words: int) -> None:
        raise ValueError(words)

    with pytest.raises(ValueError, match=str(len(encode_text(Text.of(source), tokenizer)[0]))):
        write_shards(source, tokenizer, Keeping(tmp_path / "shards", check=refuse))
    assert not (tmp_path / "shards").exists()
