"""Adapters in the format of peft: what a run learned by LoRA leaves and comes back, and what others trained is read."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import Call, call
from published import Publish, publish, transformers, write_tokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqloom.errors import SeqloomError
from seqloom.models.encoder import EncoderOnly
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs
from seqloom.run import Run
from seqloom.tasks.building import load_model
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_export, compare_with_transformers, encoder_outputs, example

__all__ = ["call", "publish", "transformers"]
QUIET = Reporter(0)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LINES = [" ".join(f"w{4 + (a * b) % 6}" for b in range(1, 7)) for a in range(1, 20)]
FILES = {
    "text.txt": LINES,
    "text.tsv": ["text\tlabel", *(f"{line}\t{'abc'[n % 3]}" for n, line in enumerate(LINES))],
    "tags.txt": [
        "\n".join(f"{word} {'B-X' if word < 'w6' else 'O'}" for word in line.split()) + "\n" for line in LINES
    ],
}
DATA = {
    "language_model": 'data = {train = ["text.txt"], valid = ["text.txt"]}\nbatches = {length = 16, lanes = 2}\n',
    "translate": 'data = {kind = "files", train = ["text.txt", "text.txt"], valid = ["text.txt", "text.txt"]}\n',
    "masked_words": 'data = {train = ["text.txt"], valid = ["text.txt"]}\nbatches = {tokens = 99, length = 16}\n',
    "classify": 'data = {train = ["text.tsv"], valid = ["text.tsv"]}\nbatches = {tokens = 99, length = 16}\n',
    "tag": 'data = {train = ["tags.txt"], valid = ["tags.txt"]}\nbatches = {tokens = 99, length = 16}\n',
}
TRAINING = "[training]\nsteps = 2\nevaluate_every = 2\nthreads = 1\n[optimizer]\nlr = 0.3\n[schedule]\nwarmup = 1\n"
# Name -> the published base, the task, and more of [adapt].
RUNS = {
    "llama": ("llama", "language_model", 'scaling = "root-rank"'),
    "qwen3": ("qwen3", "language_model", 'targets = ["qkv", "head", "blocks.0.feedforward.*"]'),
    "gpt2": ("gpt2", "language_model", ""),
    "gpt2, root": ("gpt2", "language_model", 'scaling = "root-rank"\ntargets = ["qkv", "contract"]'),
    "a new head on bert": ("bert", "classify", ""),
    "a new head on bert for masked words": ("bert-next", "classify", 'targets = ["expand"]'),
    "another head on bert": ("bert-tags", "tag", 'targets = ["qkv"]'),
    "a new head on roberta": ("roberta", "classify", '[model]\npooler = "tanh"'),
    "a new head on distilbert": ("distilbert", "classify", 'targets = ["qkv"]\n[model]\npooler = "relu"'),
    "marian": ("marian", "translate", ""),
    "pegasus": ("pegasus", "translate", 'targets = ["cross.*"]'),
    "t5": ("t5", "translate", ""),
}


@pytest.fixture
def adapted(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Callable[..., str]:
    """Trains a run with LoRA on an imported one; returns its path."""
    monkeypatch.chdir(tmp_path)
    for name, lines in FILES.items():
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def train(base: str, task: str, adapt: str = "") -> str:
        imported = {"classify": "encode", "masked_words": "encode"}.get(task, task)
        import_run(str(publish(base)), "base", QUIET, imported)
        text = f'task = "{task}"\nstart = "base"\n{DATA[task]}{TRAINING}[adapt]\nkind = "lora"\nrank = 3\nalpha = 5.0\n'
        Path("tuned.toml").write_text(text + adapt, encoding="utf-8")
        result = call("train", "tuned.toml", "--run", "tuned", "-q")
        assert result.code == 0, result.err
        return "tuned"

    return train


def outputs(run: str | Run) -> dict[str, Tensor]:
    """The logits of a run for random tokens."""
    model, heads, pair = load_model(Run.open(run), QUIET)
    ids = example(model, pair)
    with torch.inference_mode():
        if isinstance(model, EncoderOnly):
            return encoder_outputs(model, heads, ids)
        inputs = Inputs.text(ids)
        hidden = model(inputs, ids.flip(0)) if isinstance(model, EncoderDecoder) else model(inputs)[0]
        return {"logits": model.head(hidden)}


def apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_learned_leaves_and_comes_back(name: str, adapted: Any, call: Call) -> None:
    run = adapted(*RUNS[name])
    result = call("export", run, "adapter", "--to", "peft", "-q")
    assert result.code == 0, result.err
    about = json.loads(Path("adapter", CONFIG).read_text())
    modules = {
        re.sub(r"base_model\.model\.|\.lora_[AB]\.weight", "", key) for key in load_file(Path("adapter", WEIGHTS))
    }
    assert {*about["target_modules"]} <= modules
    assert all(any(m.startswith(f"{n}.") for m in modules) for n in about["modules_to_save"])
    result = call("import", "adapter", "again", "-q")
    assert result.code == 0, result.err
    expected, again = outputs(run), outputs("again")
    difference = apart(expected, again)
    print(f"{name}: {difference:.1e}")
    assert difference < 2e-6
    if RUNS[name][1] in ("translate", "language_model"):
        assert apart(expected, outputs("base")) > 1e-2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", RUNS)
def test_peft_computes_the_same(name: str, adapted: Any, transformers: Any) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: nothing is compared")
    run = adapted(*RUNS[name])
    export_run(run, "peft", "adapter", QUIET)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        differences = compare_export(run, "peft", "adapter", QUIET)
    assert not [str(w.message) for w in caught if "keys" in str(w.message)]  # missing or unexpected ones
    numbers = {key: value for key, value in differences.items() if isinstance(value, float)}
    print(name, numbers)
    assert numbers
    assert max(numbers.values()) < 2e-6
    assert not [value for value in differences.values() if str(value).startswith("DIFFERENT")], differences
    base = json.loads(Path("adapter", CONFIG).read_text())["base_model_name_or_path"]
    if RUNS[name][1] == "language_model":  # not merged
        theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), "adapter")
        model, _, pair = load_model(Run.open(run), QUIET)
        ids = example(model, pair)
        with torch.inference_mode():
            assert (theirs(ids).logits - model.head(model(Inputs.text(ids))[0])).abs().max() < 2e-6


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"target_modules": "all-linear", "use_rslora": True, "task_type": "CAUSAL_LM"}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "rank_pattern": {"c_attn": 5, "h.1.mlp.c_proj": 2}}),
        ("gpt2", {"target_modules": ["c_fc"], "alpha_pattern": {"^transformer.h.0.mlp.c_fc": 9}}),
        ("qwen2", {"target_modules": r".*layers\.1\.(self_attn|mlp)\.(k_proj|up_proj)"}),
        ("mistral", {"target_modules": ["q_proj"], "layers_to_transform": [1], "modules_to_save": ["lm_head"]}),
        ("bert-label", {"target_modules": ["query", "dense"], "task_type": "SEQ_CLS"}),
        ("roberta-label", {"target_modules": ["query"], "task_type": "SEQ_CLS"}),
        ("bert-span", {"target_modules": ["value"], "task_type": "QUESTION_ANS"}),
        ("pegasus", {"target_modules": ["q_proj", "fc1"], "task_type": "SEQ_2_SEQ_LM"}),
        ("t5", {"target_modules": ["q", "v", "wo"]}),
    ],
)
def test_what_peft_wrote_is_read(
    name: str, settings: dict[str, Any], publish: Publish, transformers: Any, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: nothing is compared")
    folder = publish(name)
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = peft.get_peft_model(
        getattr(transformers, architecture).from_pretrained(folder), peft.LoraConfig(r=3, lora_alpha=5, **settings)
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    run = import_run(str(tmp_path / "adapter"), str(tmp_path / "run"), QUIET)
    differences = compare_with_transformers(run, str(tmp_path / "adapter"), QUIET)
    numbers = {key: value for key, value in differences.items() if isinstance(value, float)}
    print(name, numbers)
    assert numbers
    assert max(numbers.values()) < 2e-6


def by_hand(folder: Path, base: Path, **tensors: Tensor) -> Path:
    """An adapter of rank 2 on two modules of GPT-2, or the same with other tensors, which None removes."""
    folder.mkdir()
    about = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "lora_alpha": 6}
    (folder / CONFIG).write_text(json.dumps({**about, "target_modules": ["c_fc"]}), encoding="utf-8")
    usual = {
        f"base_model.model.transformer.h.{n}.mlp.c_fc.lora_{side}.weight": torch.randn(shape)
        for n in range(2)
        for side, shape in (("A", (2, 12)), ("B", (48, 2)))
    }
    save_file({name: t for name, t in {**usual, **tensors}.items() if t is not None}, folder / WEIGHTS)
    return folder


def test_an_adapter_by_hand(publish: Publish, transformers: Any, tmp_path: Path) -> None:
    base = publish("gpt2")
    adapter = by_hand(tmp_path / "adapter", base)
    run = import_run(str(adapter), str(tmp_path / "run"), QUIET)
    theirs, weights = transformers.GPT2LMHeadModel.from_pretrained(base).eval(), load_file(adapter / WEIGHTS)
    for n in range(2):
        a, b = (weights[f"base_model.model.transformer.h.{n}.mlp.c_fc.lora_{side}.weight"] for side in "AB")
        for i in range(12):
            for o in range(48):  # this layer stores (inputs, outputs); s = 6 / 2
                theirs.transformer.h[n].mlp.c_fc.weight.data[i, o] += 3 * sum(b[o, r] * a[r, i] for r in range(2))
    model, _, pair = load_model(run, QUIET)
    ids = example(model, pair)
    with torch.inference_mode():
        assert (outputs(run)["logits"] - theirs(ids).logits).abs().max() < 2e-6
    assert apart(outputs(run), outputs(import_run(str(base), str(tmp_path / "plain"), QUIET))) > 1e-2


def test_the_base_may_lie_elsewhere_and_be_a_run(publish: Publish, tmp_path: Path, call: Call) -> None:
    base = publish("gpt2")
    adapter = by_hand(tmp_path / "adapter", base)
    expected = outputs(import_run(str(adapter), str(tmp_path / "expected"), QUIET))
    import_run(str(base), str(tmp_path / "base"), QUIET)
    moved = base.rename(tmp_path / "moved")
    for name in ("base", "moved"):
        result = call("import", adapter, tmp_path / f"of-{name}", "--base", tmp_path / name, "-q")
        assert result.code == 0, result.err
        assert apart(outputs(str(tmp_path / f"of-{name}")), expected) == 0
    call("import", moved, tmp_path / "x", "--base", moved, "-q").refused(2, "is no adapter", "leave --base out")


FIRST = "base_model.model.transformer.h.0.mlp.c_fc.lora_A.weight"


@pytest.mark.parametrize(
    ("settings", "tensors", "message"),
    [
        ({}, {FIRST: None}, "missing: transformer.h.0.mlp.c_fc.lora_A.weight"),
        ({}, {FIRST: torch.ones(2, 13)}, "lora_A.weight is (2, 13) instead of (2, 12)"),
        ({"r": 3}, {}, "lora_A.weight is (2, 12) instead of (3, 12)"),
        ({}, {FIRST.replace("c_fc", "fc"): torch.ones(2, 12)}, "unknown: transformer.h.0.mlp.fc"),
        ({}, {"base_model.model.more.weight": torch.ones(2)}, "unknown: more.weight"),
        ({}, {"base_model.model.transformer.wte.lora_embedding_A": torch.ones(2, 31)}, "wte.lora_embedding_A"),
        ({"target_modules": ["c_fc", "c_none"]}, {}, "unknown: target_modules 'c_none'"),
        ({"target_modules": ["c_fc", "c_attn"]}, {}, "missing: transformer.h.0.attn.c_attn"),
        ({"target_modules": "(c_fc"}, {}, "cannot be interpreted"),
        ({"rank_pattern": 5}, {}, "cannot be interpreted"),
        ({"lora_alpha": "x"}, {}, "cannot be interpreted"),
        ({"r": None}, {}, "cannot be interpreted"),
        ({"peft_type": "IA3"}, {}, "peft_type = IA3 is not supported"),
        ({"use_dora": True}, {}, "use_dora = True is not supported"),
        ({"bias": "all"}, {}, "bias = all is not supported"),
        ({"init_lora_weights": "pissa"}, {}, "init_lora_weights = pissa is not supported"),
        ({"base_model_name_or_path": "big/model"}, {}, "its base big/model is not in a directory here"),
    ],
)
def test_a_faulty_adapter_is_refused(
    settings: dict[str, Any], tensors: dict[str, Any], message: str, publish: Publish, tmp_path: Path
) -> None:
    adapter = by_hand(tmp_path / "adapter", publish("gpt2"), **tensors)
    path = adapter / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}), encoding="utf-8")
    with pytest.raises(SeqloomError) as caught:
        import_run(str(adapter), str(tmp_path / "run"), QUIET)
    assert caught.value.exit_code == 2
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert not (tmp_path / "run").exists()


def test_a_changed_table_that_the_output_shares_is_refused(publish: Publish, tmp_path: Path) -> None:
    base = publish("gpt2")
    table = {"base_model.model.transformer.wte.weight": torch.ones(31, 12)}
    adapter = by_hand(tmp_path / "adapter", base, **table)
    with pytest.raises(SeqloomError, match=r"adapter: changes transformer\.wte\.weight, which the model uses at anot"):
        import_run(str(adapter), str(tmp_path / "run"), QUIET)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(SeqloomError, match="its weights are a pickle"):
        import_run(str(adapter), str(tmp_path / "run"), QUIET)


def test_what_peft_cannot_express_is_refused(adapted: Any, call: Call) -> None:
    run = adapted("gpt2", "language_model", 'targets = ["embedder"]')
    peft = ("--to", "peft", "-q")
    call("export", run, "out", *peft).refused(2, "what was learned of embedder.weight cannot be written", "--to hf")
    call("export", "base", "out", *peft).refused(2, "base: was not adapted with adapt.kind = 'lora'")
    refused = "--base is for --to peft and --to adapter only"
    call("export", run, "out", "--to", "hf", "--base", "base", "-q").refused(2, refused)
    assert not Path("out", CONFIG).exists()


def test_without_the_package_the_extra_is_named(
    adapted: Any, call: Call, transformers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    result = call("export", adapted("llama", "language_model"), "out", "--to", "peft", "-q", "--verify")
    result.refused(2, "--verify of an adapter needs the extra 'peft'", "pip install 'seqloom[peft]'")


def test_a_part_of_a_module_is_refused(adapted: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> None:
        write_tokenizer(folder)
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"w30"', '"<mask>"'), encoding="utf-8")

    monkeypatch.setattr("published.write_tokenizer", write)
    run = adapted("bert", "masked_words")
    call("export", run, "out", "--to", "peft", "-q").refused(2, "cannot express that cls.predictions.bias", "--to hf")


def test_another_base_of_the_same_form_is_refused(adapted: Any, call: Call, publish: Publish) -> None:
    run, peft = adapted("gpt2", "language_model"), ("--to", "peft", "-q")
    other = publish("gpt2")  # with other weights
    call("export", run, "out", *peft, "--base", other).refused(2, "does not have the weights of this base", "--to hf")
    assert not Path("out", CONFIG).exists()


def test_new_tokens_are_refused(adapted: Any, call: Call) -> None:
    row = {"messages": [{"role": "user", "content": LINES[0]}, {"role": "assistant", "content": LINES[1]}]}
    adapted("gpt2", "language_model")
    Path("talk.jsonl").write_text(f"{json.dumps(row)}\n" * 9, encoding="utf-8")
    data = ("--data.kind", "conversations", "--data.train", "talk.jsonl", "--data.valid", "talk.jsonl")
    result = call("train", "tuned.toml", "--run", "talk", *data, "-q")
    assert result.code == 0, result.err
    call("export", "talk", "out", "--to", "peft", "-q").refused(2, "learned of embedder.weight cannot be written")


def test_a_run_on_one_that_was_trained_here(adapted: Any, call: Call, tmp_path: Path) -> None:
    adapted("llama", "language_model")
    text = Path("tuned.toml").read_text().replace('"base"', '"tuned"')
    Path("more.toml").write_text(text, encoding="utf-8")
    assert call("train", "more.toml", "--run", "more", "-q").code == 0
    call("export", "more", "out", "--to", "peft", "-q").refused(
        2, "is in no Hugging Face directory", "seqloom export tuned DIRECTORY --to hf, then --base DIRECTORY"
    )
    assert call("export", "tuned", "whole", "--to", "hf", "-q").code == 0
    result = call("export", "more", "out", "--to", "peft", "--base", "whole", "-q")
    assert result.code == 0, result.err
    assert json.loads(Path("out", CONFIG).read_text())["base_model_name_or_path"] == str(tmp_path / "whole")
    assert call("import", "out", "again", "-q").code == 0
    assert apart(outputs("more"), outputs("again")) < 2e-6
