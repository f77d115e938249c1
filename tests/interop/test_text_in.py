"""Text in, answer out: the same as transformers' own pipelines with random models and real kinds of tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import BERT, LLAMA, ROBERTA, transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

from seqloom.config import tree_of
from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling
from seqloom.interop.side_files import decoding, generation_of, suppressed
from seqloom.tasks import load
from seqloom.tasks.encoder.embed import load_encoder
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_with_transformers

__all__ = ["transformers"]
QUIET = Reporter(0)
TEXTS = ["Angela Schmidt ist da", "der Schmidt", "New York, Angela"]
NAMES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_level(folder: Path, *, ends: bool = True) -> int:
    """Writes RoBERTa's kind of tokenizer: bytes, and two separators between the texts of a pair."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[*NAMES, "<|user|>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(TEXTS, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    if ends:
        inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder.mkdir(parents=True, exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    tokens = {
        "bos": "<s>",
        "cls": "<s>",
        "eos": "</s>",
        "sep": "</s>",
        "pad": "<pad>",
        "unk": "<unk>",
        "mask": "<mask>",
    }
    about = {f"{name}_token": token for name, token in tokens.items()} | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return int(inner.get_vocab_size())


def written(transformers: Any, folder: Path, architecture: str, config: str, **arguments: Any) -> Path:
    torch.manual_seed(1)
    model = getattr(transformers, architecture)(getattr(transformers, config)(**arguments))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def roberta(transformers: Any, folder: Path, head: str, **more: Any) -> Path:
    size = {"vocab_size": byte_level(folder), "max_position_embeddings": 80, "pad_token_id": 1}
    return written(transformers, folder, f"RobertaFor{head}", "RobertaConfig", **{**ROBERTA, **size, **more})


def agrees(run: Any, folder: Path) -> dict[str, object]:
    found = compare_with_transformers(run, str(folder), QUIET)
    assert not any(str(value).startswith("DIFFERENT") for value in found.values()), str(found)
    assert all(value <= 1e-4 for value in found.values() if isinstance(value, float))
    return found


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("TokenClassification", "labels of words"),
        ("SequenceClassification", "labels of pairs"),
        ("QuestionAnswering", "answers"),
        ("MaskedLM", "masked words"),
    ],
)
def test_roberta_answers_texts_alike_and_again_when_written_back(
    head: str, name: str, transformers: Any, tmp_path: Path
) -> None:
    folder = roberta(transformers, tmp_path / "published", head)
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    assert agrees(run, folder)[name] == "the same"
    export_run(str(run.path), "hf", str(tmp_path / "out"), QUIET)
    assert agrees(run, tmp_path / "out")[name] == "the same"


def test_a_word_keeps_the_space_before_it(transformers: Any, tmp_path: Path) -> None:
    folder = roberta(transformers, tmp_path / "published", "TokenClassification", num_labels=5)
    tagger = load(import_run(str(folder), str(tmp_path / "run"), QUIET))
    ids = tagger.reader.items([tagger.reader.row("der Schmidt")], learn=False)[0].windows[0].values
    assert tagger.reader.tokenizer.tokens(ids) == ["<s>", "der", "_Schmidt", "</s>"]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(1, None), (1, "regression"), (3, "regression"), (3, "multi_label_classification"), (3, None)],
)
def test_scores_are_those_of_the_problem(labels: int, problem: str | None, transformers: Any, tmp_path: Path) -> None:
    folder = roberta(transformers, tmp_path / "p", "SequenceClassification", num_labels=labels, problem_type=problem)
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    pipeline = transformers.pipeline("text-classification", model=str(folder), tokenizer=str(folder), device="cpu")
    theirs = pipeline(TEXTS[0])[0]
    (own,) = load(run, precision="fp32")([TEXTS[0]])
    score = own.label if isinstance(own.label, float) else own.probabilities[own.label]
    assert score == pytest.approx(theirs["score"], abs=1e-4)
    assert isinstance(own.label, float) or own.label == theirs["label"]
    pair = pipeline({"text": TEXTS[0], "text_pair": TEXTS[1]})
    (both,) = load(run, precision="fp32")([f"{TEXTS[0]}\t{TEXTS[1]}"])
    both_score = both.label if isinstance(both.label, float) else both.probabilities[both.label]
    assert both_score == pytest.approx((pair[0] if isinstance(pair, list) else pair)["score"], abs=1e-4)
    export_run(str(run.path), "hf", str(tmp_path / "out"), QUIET)
    agrees(run, tmp_path / "out")


def test_a_single_label_has_a_sigmoid(transformers: Any, tmp_path: Path) -> None:
    folder = roberta(transformers, tmp_path / "p", "SequenceClassification", num_labels=1)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "problem_type": "single_label_classification"}))
    (label,) = load(import_run(str(folder), str(tmp_path / "run"), QUIET))(TEXTS[:1])
    assert label.probabilities[label.label] != 1


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_sentences_have_the_pooling_that_is_stated(mode: str, transformers: Any, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    size = {"vocab_size": byte_level(folder), "max_position_embeddings": 80}
    written(transformers, folder, "BertModel", "BertConfig", **{**BERT, **size, "pad_token_id": 1})
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}": name.startswith(mode) for name in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12, **modes}))
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 50, "do_lower_case": True}))
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    encoder = load_encoder(run.path, precision="fp32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        states = theirs(**tokenizer(TEXTS[0].lower(), return_tensors="pt")).last_hidden_state[0]
    expected = {"cls": states[0], "mean": states.mean(0), "max": states.amax(0)}[mode]
    own = encoder([TEXTS[0]], pooling="own")[0]
    np.testing.assert_allclose(own, nn.functional.normalize(expected, dim=0).numpy(), atol=1e-5)
    assert encoder.length == 50


def llama(transformers: Any, folder: Path) -> Path:
    size = {"vocab_size": byte_level(folder, ends=False), "max_position_embeddings": 80}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return written(transformers, folder, "LlamaForCausalLM", "LlamaConfig", **{**LLAMA, **size, **ids})


def test_any_of_several_ends_ends_a_text(transformers: Any, tmp_path: Path) -> None:
    folder = llama(transformers, tmp_path / "published")
    plain = load(import_run(str(folder), str(tmp_path / "plain"), QUIET))
    before = plain.encode("Angela")
    from seqloom.decoding.config import Greedy
    from seqloom.decoding.job import Request

    ids = plain.engine.generate([before], Request(12, plain.tokenizer.stop), Greedy())[0][0].ids
    end = ids[5]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, end]}))
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    # Their text shows an end that is no special token.
    assert compare_with_transformers(run, str(folder), QUIET)["greedy output"] == "the same"
    generator = load(run)
    found = generator.engine.generate(
        [before], Request(12, generator.tokenizer.stop, ends=generator.tokenizer.stops), Greedy()
    )[0][0].ids
    assert found == ids[: ids.index(end)]
    assert "".join(generator.stream("Angela", kind="greedy")) == generator("Angela", kind="greedy")[len("Angela") :]


def test_special_tokens_are_read_only_in_trusted_text(transformers: Any, tmp_path: Path) -> None:
    folder = llama(transformers, tmp_path / "published")
    run, prompt = import_run(str(folder), str(tmp_path / "run"), QUIET), "<|user|>Angela</s>"
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(prompt, add_special_tokens=False).input_ids
    trusting, usual = load(run, special_tokens=True).tokenizer, load(run).tokenizer
    assert trusting.encode([prompt])[0].tolist() == theirs
    assert len(usual.encode([prompt])[0]) > len(theirs)
    assert usual.decode([usual.encode([prompt])[0].tolist()]) == [prompt]


def test_what_differs_is_found(transformers: Any, tmp_path: Path) -> None:
    folder = roberta(transformers, tmp_path / "published", "SequenceClassification", num_labels=3)
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    path = folder / "model.safetensors"
    found = load_file(path)
    about = json.loads((folder / "config.json").read_text())
    # Two labels there, and three here: another shape.
    save_file({n: t[:2].contiguous() if "out_proj" in n else t for n, t in found.items()}, path)
    labels = {str(i): f"LABEL_{i}" for i in range(2)}
    (folder / "config.json").write_text(json.dumps({**about, "id2label": labels, "label2id": {}}))
    result = compare_with_transformers(run, str(folder), QUIET)
    assert str(result["max difference, label"]).startswith("DIFFERENT: the shape (2, 3) here, (2, 2) there")
    assert str(result["labels of texts"]).startswith("DIFFERENT")
    assert result["compared"] == "states, label"


def test_an_end_before_theirs_is_found(transformers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = llama(transformers, tmp_path / "published")
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    monkeypatch.setattr("seqloom.workflows.parity.greedy", lambda model, pair, rows: [([], True) for _ in rows])
    assert str(compare_with_transformers(run, str(folder), QUIET)["greedy output"]).startswith("DIFFERENT")


@pytest.mark.parametrize(
    ("kind", "stated", "options", "warnings"),
    [
        ("decoder-only", {"no_repeat_ngram_size": 1}, {"no_repeat_ngram": 1, "count_prompt": True}, []),
        ("decoder-only", {"no_repeat_ngram_size": 0, "repetition_penalty": 1.0}, {}, []),
        ("decoder-only", {"min_length": 5}, {}, ["min_length is not used, as it counts the prompt"]),
        (
            "decoder-only",
            {"do_sample": True, "top_p": 0.5},
            {"kind": "sample", "temperature": 1.0, "top_k": 50, "top_p": 0.5, "min_p": 0.0},
            [],
        ),
        ("encoder-decoder", {"max_new_tokens": 9, "forced_eos_token_id": 2}, {"kind": "greedy", "max_length": 8}, []),
        (
            "encoder-decoder",
            {"max_length": 9, "min_length": 3, "forced_eos_token_id": 2},
            {"kind": "greedy", "max_length": 7, "min_length": 2},
            [],
        ),
    ],
)
def test_decoding_is_as_stated(kind: str, stated: Any, options: Any, warnings: list[str]) -> None:
    assert decoding(stated, kind) == (options, warnings)


def test_ids_that_are_never_generated() -> None:
    stated = {"bad_words_ids": [[3], [4, 5]], "suppress_tokens": [6]}
    warning = "bad_words_ids of several ids are not used: [4, 5]"
    assert suppressed(stated, "encoder-decoder") == ((3, 6), [warning])
    assert suppressed({"suppress_tokens": [6]}, "decoder-only") == ((), ["suppress_tokens is not used"])


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize(
    "config",
    [
        Greedy(),
        Greedy(max_length=9, repetition_penalty=1.5, no_repeat_ngram=1, count_prompt=True),
        BeamSearch(),
        BeamSearch(beam=3, length_penalty=0.5, stop="first", max_length=30),
        BeamSearch(beam=2, stop="certain"),
        Sampling(),
        Sampling(temperature=0.5, top_k=7, top_p=0.75, min_p=0.25),
    ],
)
def test_a_decoding_config_comes_back_from_its_export(config: DecodingConfig, kind: str) -> None:
    fields, missing = generation_of(tree_of(config), kind)
    options, warnings = decoding(fields | {"forced_eos_token_id": 2} if kind == "encoder-decoder" else fields, kind)
    assert (missing, warnings) == ([], [])
    assert type(config)(**{key: value for key, value in options.items() if key != "kind"}) == config
    assert options["kind"] == config.kind


def test_what_transformers_lacks_is_named() -> None:
    config = BeamSearch(coverage_penalty=0.5, no_repeat_ngram=2)
    assert generation_of(tree_of(config), "encoder-decoder")[1] == ["no_repeat_ngram", "coverage_penalty"]
