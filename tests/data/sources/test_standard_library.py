from __future__ import annotations

import pytest

from seqloom.data.rows import Text
from seqloom.data.sources.source import SPLITS
from seqloom.data.sources.standard_library import library_source
from seqloom.errors import UsageError


def test_the_splits_share_no_file_and_each_has_modules_and_help():
    sources = {split: library_source(split) for split in SPLITS}
    names = [{path for path in source.files if path.name != "topics.py"} for source in sources.values()]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert len(names[0]) > 400
    assert not any("test" in path.parts or "site-packages" in path.parts for path in names[0])
    valid = Text.of(sources["valid"])
    assert sum(line is None for line in valid.lines) >= len(names[1]) > 5
    assert sum(line is None for line, _ in sources["train"]) > len(names[0]) + 50
    assert 1e5 < valid.sizes()["bytes"] < 2e6
    assert valid.digest() == Text.of(library_source("valid")).digest()


def test_a_python_without_its_source(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UsageError, match="is not there") as caught:
        library_source("train")
    assert "--data.train" in caught.value.cure
