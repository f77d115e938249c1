"""lm-eval measures a model here through its local-completions, and gets what `seqloom eval --choices` gets."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from made_up import sentences
from test_http import serving

from seqloom.serving.served import Models
from seqloom.tasks.language_model.choices import score_choices
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run

TASK = """\
task: made_up
dataset_path: json
dataset_kwargs:
  data_files:
    test: QUESTIONS
test_split: test
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_accuracy_is_that_of_eval(models: Models, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    chance, lines = random.Random(1), sentences(60, 9)
    rows: list[Any] = [{"context": a, "choices": chance.sample(lines, 4), "answer": chance.randrange(4)} for a in lines]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "made_up.yaml").write_text(TASK.replace("QUESTIONS", str(questions)), encoding="utf-8")
    export_run(str(runs / "bytes"), "hf", str(tmp_path / "hf"), Reporter(0))
    with serving(models) as (url, _, _):
        arguments = {"base_url": f"{url}/v1/completions", "tokenizer": str(tmp_path / "hf"), "max_length": 64}
        result = lm_eval.simple_evaluate(
            "local-completions",
            model_args={"model": "bytes", "add_bos_token": True, "num_concurrent": 4, **arguments},
            tasks=["made_up"],
            task_manager=TaskManager(include_path=str(tmp_path)),
            batch_size=2,
        )
    ours = score_choices(models.get("bytes").predictor, str(questions), 0, Reporter(0))
    assert 100 * result["results"]["made_up"]["acc,none"] == pytest.approx(ours["accuracy"])
    assert 0 < ours["accuracy"] < 100
