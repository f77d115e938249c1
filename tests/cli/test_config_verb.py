from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import SMALL, Call
from jsonschema import Draft7Validator

from seqloom.config import load
from seqloom.tasks import TASKS
from seqloom.tasks.seq2seq.task import TranslateConfig


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL, encoding="utf-8")
    return tmp_path


def test_without_arguments_the_tasks_are_listed(call: Call):
    assert [line.split()[0] for line in call("config").lines] == list(TASKS)


def test_a_task_has_every_key_explained(call: Call):
    lines = call("config", "translate").lines
    for line in (
        "  seed: a whole number from 0 to 9,223,372,036,854,775,807; default 1",
        "      steps: a whole number from 1 to 1,000,000,000; default 10000",
    ):
        assert line in lines
    assert '    kind = "cosine": Rises linearly' in "\n".join(lines)


def test_a_file_is_printed_complete_and_means_the_same(call: Call):
    Path("small.toml").write_text(SMALL.replace("[model.encoder]", "[model]\npreset = 'base'\n[model.encoder]"))
    result = call("config", "small.toml")
    assert 'norm_position = "after"' in result.lines  # of the preset
    Path("complete.toml").write_text(result.out, encoding="utf-8")
    complete = load(TranslateConfig, "complete.toml", ["--run", ""])
    assert complete == load(TranslateConfig, "small.toml")


def test_help_on_one_key_of_a_task_and_of_a_file(call: Call):
    assert call("config", "translate", "training.steps").lines == [
        "training.steps: a whole number from 1 to 1,000,000,000; default 10000", "    optimizer steps."
    ]  # fmt: skip
    assert call("config", "small.toml", "training.steps").lines[0].endswith("default 10000; in the file 4")
    assert call("config", "small.toml", "model.encoder.layers").lines[0] == (
        "model.encoder.layers (transformer): a whole number from 1 to 1,000; default 3; in the file 1"
    )
    assert (
        call("config", "translate", "model.encoder.positions.rotary")
        .lines[0]
        .startswith("model.encoder.positions.rotary: Queries and keys rotated")
    )


def test_what_is_unknown_comes_with_the_nearest(call: Call):
    call("config", "translate", "training.stpes").refused(2, "training.stpes: unknown key", "did you mean 'steps'?")
    call("config", "translate", "steps").refused(2, "did you mean 'training.steps'?")
    call("config", "transalte").refused(2, "transalte: is neither a task nor a file", "did you mean 'translate'?")
    Path("small.toml").write_text('task = "transalte"\n', encoding="utf-8")
    call("config", "small.toml").refused(2, "small.toml:1 (task): unknown task", "did you mean 'translate'?")
    call("config", "small.toml", "--schema").refused(2, "small.toml:1 (task): unknown task")


def test_a_schema_goes_to_standard_output_or_to_a_new_file(call: Call):
    result = call("config", "translate", "--schema")
    Draft7Validator.check_schema(json.loads(result.out))
    Path("small.toml").write_text(f"{SMALL}\n[members.one]\naccept = {{ bleu = 3 }}\n", encoding="utf-8")
    assert call("config", "small.toml", "--schema").out == result.out  # also of a ladder
    for _ in range(2):  # the same content is no harm
        assert call("config", "translate", "--schema", "x.json").code == 0
        assert Path("x.json").read_text(encoding="utf-8") == result.out
    call("config", "tag", "--schema", "x.json").refused(2, "x.json: exists already with different content")
    assert Path("x.json").read_text(encoding="utf-8") == result.out
    for words in (["--schema"], ["--schema", "translate"], ["translate", "--schema", "a", "b"]):
        call("config", *words).refused(2, "--schema needs a task")


def test_markdown_of_one_task(call: Call):
    page = call("config", "small.toml", "--markdown").out
    assert "\n## translate\n" in page
    assert "\n## tag\n" not in page


def test_init_names_the_schema_that_it_writes_beside(call: Call):
    assert call("init", "tag", "--file", "below/x.toml").code == 0
    first = Path("below/x.toml").read_text(encoding="utf-8").split("\n")[0]
    assert first == "#:schema ./seqloom-tag.schema.json"
    schema = Path("below/seqloom-tag.schema.json")
    assert schema.read_text(encoding="utf-8") == call("config", "tag", "--schema").out
    assert call("init", "tag", "--file", "below/y.toml").code == 0  # its schema is there already
    schema.write_text("{}", encoding="utf-8")
    call("init", "tag", "--file", "below/z.toml").refused(2, "seqloom-tag.schema.json: exists already")
    assert schema.read_text(encoding="utf-8") == "{}"
    assert not Path("below/z.toml").exists()
