"""Parity notices a model that is another one: each comparison fails when it compares nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from published import Publish, publish, transformers

from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_export, compare_with_transformers

__all__ = ["publish", "transformers"]
QUIET = Reporter(0)


@pytest.mark.parametrize("name", ["gpt2", "llama", "marian", "t5", "bert-label", "bert-span", "roberta", "vit-label"])
def test_other_weights_are_noticed_by_transformers(name: str, publish: Publish, tmp_path: Path) -> None:
    run = import_run(str(publish(name)), str(tmp_path / "run"), QUIET)
    found = compare_with_transformers(run, str(publish(name)), QUIET)  # published again, with other random weights
    differences = {key: value for key, value in found.items() if isinstance(value, float)}
    assert differences
    assert all(value > 0.01 for value in differences.values()), found
    assert str(found.get("greedy output", "DIFFERENT")).startswith("DIFFERENT")


@pytest.mark.parametrize("name", ["gpt2", "marian"])
def test_other_weights_are_noticed_in_exports(name: str, publish: Publish, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: nothing is compared")
    first, second = (import_run(str(publish(name)), str(tmp_path / f"run-{n}"), QUIET) for n in (1, 2))
    export_run(str(first.path), "ctranslate2", str(tmp_path / "out"), QUIET)
    found = compare_export(str(second.path), "ctranslate2", str(tmp_path / "out"), QUIET)
    assert str(found["greedy output"]).startswith("DIFFERENT")
