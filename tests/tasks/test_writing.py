"""Jobs of predictors: their pieces are the texts that the predictors give, with reasons and counts of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.decoding.config import BeamSearch, Greedy
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.writing import Usage, Writing
from seqloom.text.tokenizer import BPE, Characters, Tokenizer
from seqloom.text.training import train_tokenizer

TEXTS = ["ba ko 👩‍👩‍👧 mi", "ok 很好吗", "don't go", "e\u0301a tone"]
TOKENIZER: Tokenizer = train_tokenizer(BPE(size=290), TEXTS)
SMALL = TransformerConfig(layers=1, width=8, inner=8, heads=2, dropout=0.0)


def predictor(kind: str, tokenizer: Tokenizer = TOKENIZER) -> Any:
    torch.manual_seed(3)
    if kind == "generator":
        model: Any = LanguageModel(DecoderOnlyConfig(decoder=SMALL, tie=False), tokenizer.vocab_size)
    else:
        config = EncoderDecoderConfig(encoder=SMALL, decoder=SMALL, tie="none")
        model = EncoderDecoder(config, tokenizer.vocab_size, tokenizer.vocab_size)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.9)
    if kind == "generator":
        return Generator(model.eval(), tokenizer, Greedy(max_length=30), 50)
    return Translator(model.eval(), tokenizer, tokenizer, Greedy(max_length=30))


def written(made: Any, *writings: Writing) -> list[str]:
    running, texts = made.continuous(), dict.fromkeys(writings, "")
    of_job = {writing.job: writing for writing in writings}
    for writing in writings:
        running.join(writing.job)
    while len(running):
        for update in running.step():
            texts[of_job[update.job]] += of_job[update.job].take(update)
    return [*texts.values()]


@pytest.mark.parametrize("kind", ["generator", "translator"])
def test_the_pieces_of_jobs_are_the_texts(kind: str) -> None:
    made = predictor(kind)
    options: list[dict[str, Any]] = [{}, {"max_length": 5}, {"temperature": 1.5, "seed": 4}, {"beam": 3, "n_best": 2}]
    writings = [made.job(text, **each) for text in TEXTS for each in options]
    pieces = written(made, *writings)
    for (text, each), writing, piece in zip([(t, e) for t in TEXTS for e in options], writings, pieces, strict=True):
        results = made.generate(text, **each) if kind == "generator" else made.translate([text], **each)[0]
        begin = len(text) if kind == "generator" else 0
        assert writing.results is not None
        assert [r.text for r in writing.results] == [r.text[begin:] for r in results]
        assert piece == results[0].text[begin:]
        assert writing.results[0].log_p == pytest.approx(results[0].log_p, abs=1e-3)
        read = made.encode(text) if kind == "generator" else made.encode([text])[0]
        assert writing.usage == Usage(len(read), sum(result.tokens for result in writing.results))
        longest = each.get("max_length", 30)
        assert writing.finish_reason == ("length" if writing.results[0].tokens == longest else "stop")


@pytest.mark.parametrize("kind", ["generator", "translator"])
def test_a_stop_string_across_tokens_ends_a_job_before_it(kind: str) -> None:
    made = predictor(kind, train_tokenizer(Characters(), ["okba mi"]))
    options = {"temperature": 2.0, "seed": 3, "min_length": 12}
    whole = made.job("ba", **options)
    (text,) = written(made, whole)
    stop = text[6:8]  # of two tokens
    assert len(stop) == 2 < len(text[text.index(stop) :])
    writing = made.job("ba", stop=[stop], **options)
    (piece,) = written(made, writing)
    assert piece == text[: text.index(stop)]
    assert writing.finish_reason == "stop"
    assert writing.usage.completion == text.index(stop) + 2 < whole.usage.completion


def test_a_blank_text_has_no_job_to_wait_for() -> None:
    made = predictor("translator")
    blank, other = made.job(" "), made.job("ba", prefix="ok", top=2)
    texts = written(made, blank, other)
    assert texts[0] == ""
    assert (blank.finish_reason, blank.usage) == ("stop", Usage(0, 0))
    assert texts[1].startswith("ok")
    assert all(len(choice.top) == 2 for choice in other.choices)
    with pytest.raises(Exception, match="several texts cannot be streamed"):
        next(predictor("generator").stream("ba", kind="beam", beam=BeamSearch().beam))
