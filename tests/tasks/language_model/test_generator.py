from __future__ import annotations

import pytest
import torch

from seqloom.decoding.config import DecodingConfig, Greedy, Sampling
from seqloom.errors import DataError, UsageError
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.positions import Learned, Rotary
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_model.predictor import Generator
from seqloom.text.tokenizer import BPE, Special, Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

TEXT = ["one two three four five six seven eight nine ten"]
STACK = TransformerConfig(layers=2, width=12, inner=8, heads=2, positions=Learned(length=9))
LSTM = RecurrentDecoderConfig(cell="lstm", width=12)
LLAMA = TransformerConfig(layers=2, width=12, inner=8, heads=2, kv_heads=1, positions=Rotary(), norm="rms")
GREEDY = Greedy(max_length=20)


def generator(
    decoder: object, context: int = 64, config: DecodingConfig = GREEDY, tokenizer: object = None
) -> Generator:
    torch.manual_seed(4)
    words = tokenizer or train_tokenizer(WordLevel(), TEXT)
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder), words.vocab_size).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return Generator(model, words, config, context=context)


@torch.no_grad()
@pytest.mark.parametrize("decoder", [STACK, LSTM], ids=lambda d: d.kind)
def test_each_word_is_the_likeliest_after_the_ones_it_sees(decoder):
    made = generator(decoder)
    ids = made.encode("one two")
    prompt_length = len(ids)
    assert made.context == (9 if decoder is STACK else None)
    seen, log_p = list(ids), 0.0  # what a model of 9 positions sees: after 9 words it begins anew over the last 4
    while len(ids) - prompt_length < 20:
        if made.context is not None and len(seen) > made.context:
            seen = seen[-(made.context // 2) :]
        scores = made.model.head(made.model(Inputs.text(torch.tensor([seen])))[0][0, -1]).float().log_softmax(-1)
        word = int(scores.argmax())
        log_p += float(scores[word])
        if word == made.tokenizer.start:
            break
        ids.append(word)
        seen.append(word)
    best = made.generate("one two")[0]
    assert best.text == made.decode(ids).replace("<s>", "")
    assert best.text.startswith("one two")
    if len(ids) - prompt_length < 20:
        assert best.log_p == pytest.approx(log_p, rel=1e-4)


def test_samples_are_a_function_of_the_seed():
    made = generator(LSTM, config=Sampling(max_length=9))
    assert made("one") == made("one", seed=1) != made("one", seed=2)
    several = made.generate("one", n_best=5)
    assert len(several) == 5
    assert len({generation.text for generation in several}) > 1
    assert all(generation.text.startswith("one") for generation in several)
    assert made(max_length=3) == made("", max_length=3)


def test_a_prompt_stays_as_it_was_written():
    for tokenizer in (train_tokenizer(WordLevel(lowercase=True), TEXT), train_tokenizer(BPE(size=270), TEXT)):
        made = generator(LSTM, tokenizer=tokenizer)
        for prompt in ("", "One  UNHEARD two", "one\ntwo\n", "süß one", "a\n\nb"):
            assert made(prompt).startswith(prompt)


@pytest.mark.parametrize("decoder", [STACK, LSTM, LLAMA], ids=["learned", "lstm", "rotary"])
def test_prompts_together_are_each_alone(decoder):
    made = generator(decoder, context=64)
    prompts = ["one two three", "four", "", "five six seven eight nine ten one two three", "six five"]
    together = made.batch(prompts)
    assert [generations[0].text for generations in together] == [made(prompt) for prompt in prompts]
    for generations, prompt in zip(together, prompts, strict=True):
        assert generations[0].log_p == pytest.approx(made.generate(prompt)[0].log_p, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"sample": True, "seed": 3}], ids=str)
def test_a_stream_is_the_whole_text_in_pieces(options):
    made = generator(STACK, tokenizer=train_tokenizer(BPE(size=270), TEXT))
    pieces = list(made.stream("one süß", **options))
    assert len(pieces) > 3
    assert "one süß" + "".join(pieces) == made("one süß", **options)


def test_a_text_ends_before_a_stop():
    made = generator(LSTM, config=Greedy(max_length=30))
    whole = made("one")
    stop = whole[12:17]
    expected = whole[: whole.index(stop, 3)]
    assert made("one", stop=("never", stop)) == expected
    assert "one" + "".join(made.stream("one", ("never", stop))) == expected
    assert made("one", stop=("never",)) == whole
    assert made(stop, stop=(stop,)).startswith(stop)  # the prompt may have it


@pytest.mark.parametrize("context", [7, 64])
def test_a_draft_changes_nothing_of_a_greedy_text(context):
    made, small = generator(LLAMA, context=context), generator(LLAMA, context=context)
    other = generator(TransformerConfig(layers=1, width=12, inner=8, heads=2, positions=Rotary()), context=context)
    for draft in (small, other):
        assert "one two" + "".join(made.stream("one two", draft=draft, ahead=3)) == made("one two")


def test_drafts_that_cannot_be():
    made, words = generator(LLAMA), train_tokenizer(WordLevel(), ["other words"])
    for draft, problem in ((generator(LLAMA, tokenizer=words), "another tokenizer"), (generator(LSTM), "Transformer")):
        with pytest.raises(UsageError, match=problem):
            list(made.stream("one", draft=draft))
    with pytest.raises(UsageError, match="repetition_penalty"):
        list(made.stream("one", draft=made, repetition_penalty=2.0))
    with pytest.raises(UsageError, match="several texts"):
        list(made.stream("one", n_best=2, sample=True))
    for ahead in (0, -3):
        with pytest.raises(UsageError, match=f"must be at least 1, not {ahead}"):
            list(made.stream("one", draft=made, ahead=ahead))


def test_a_text_ends_before_a_stop_that_is_one():
    made = generator(LSTM)
    for call in (lambda: made("one", stop=["x", ""]), lambda: list(made.stream("one", [""]))):
        with pytest.raises(UsageError, match="an empty text is in every text"):
            call()


def test_more_words_than_positions_are_refused_where_that_is_wanted():
    made = generator(STACK)
    made.long_text = "refuse"
    assert made("one", max_length=5)
    with pytest.raises(DataError, match="context of 9"):
        made("one two three", max_length=6)


def test_a_text_is_looked_at_as_a_whole_or_by_its_beginning():
    made = generator(STACK, context=9)
    with pytest.raises(DataError, match="more than the model's context of 9"):
        made.look("one two three four " * 4)
    assert len(made.look("one two three four " * 4, tokens=5).sides["decoder"].ids) == 5


@pytest.mark.parametrize("decoder", [STACK, LSTM], ids=lambda d: d.kind)
def test_scores_are_sums_over_the_tokens_of_a_text(decoder):
    made = generator(decoder)
    befores, texts = ["one two", "", "three"], [" three four", "five", " one"]
    for (log_p, count), before, text in zip(made.score(texts, befores), befores, texts, strict=True):
        first, whole = made.encode(before), made.encode(before + text)
        with torch.no_grad():
            log_ps = made.model.head(made.model(Inputs.text(torch.tensor([whole])))[0]).log_softmax(-1)[0]
        expected = sum(float(log_ps[i - 1, whole[i]]) for i in range(len(first), len(whole)))
        assert count == len(whole) - len(first)
        assert log_p == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match="more than the model's context"):
        generator(STACK).score([" one two three" * 4], ["one"])


def test_ends_of_lines_come_and_go():
    made = generator(LSTM)
    ids = made.encode("one two\nthree")
    assert [made.tokenizer.tokens([i])[0] for i in ids] == ["<s>", "one", "two", "</s>", "three"]
    assert made.decode(ids) == "one two\nthree"


def test_an_unknown_option_is_refused():
    made = generator(LSTM)
    with pytest.raises(UsageError, match="temprature"):
        made("one", temprature=2)


@pytest.mark.parametrize("opens", [False, True])
def test_a_published_model_s_text_begins_as_it_was_trained(opens: bool) -> None:
    words = train_tokenizer(BPE(size=280), TEXT)
    special = Special(words.vocab_size, words.pad, words.unknown, words.start, words.end, opens)
    made = generator(STACK, tokenizer=Tokenizer(words.inner, special))
    prompt = "one\ntwo"
    assert made.encode(prompt) == [words.start] * opens + words.encode([prompt])[0].tolist()
    assert made.encode("") == [words.start]
    assert made.decode(made.encode(prompt)) == prompt
    assert made(prompt, max_length=2).startswith(prompt)
    assert made("o", max_length=2).startswith("o")
