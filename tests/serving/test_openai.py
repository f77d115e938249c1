"""The server as OpenAI's own client meets it, which validates every response."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import torch

from seqloom.serving.served import Models
from seqloom.text.chat import Message

GREEDY: Any = {"model": "lm", "temperature": 0}


async def collected(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def test_models_say_what_they_are_for(call):
    listed = {m.id: m.model_extra["uses"] for m in call(lambda c: c.models.list()).data}
    assert listed == {
        "lm": ["/v1/completions", "/v1/chat/completions"],
        "bytes": ["/v1/completions", "/v1/chat/completions"],
        "mt": ["/v1/translate"],
        "label": ["/v1/embeddings", "/v1/classify"],
        "span": ["/v1/embeddings", "/v1/answer"],
        "words": ["/v1/embeddings", "/v1/fill"],
        "pictures": ["/v1/classify"],
        "waves": ["/v1/classify"],
        "steps": ["/v1/classify"],
        "pens": ["/v1/translate"],
        "ahead": ["/v1/forecast"],
        "scenes": ["/v1/caption"],
        "guide/german": ["/v1/caption"],
        "vectors": ["/v1/embeddings"],
    }
    assert call(lambda c: c.models.retrieve("mt")).id == "mt"


def test_a_completion_is_what_the_predictor_writes(call, models: Models):
    generator = models.get("lm").predictor
    answer = call(lambda c: c.completions.create(prompt=["ba ko", "mi"], max_tokens=7, **GREEDY))
    texts = generator(["ba ko", "mi"], kind="greedy", max_length=7)
    assert ["ba ko" + answer.choices[0].text, "mi" + answer.choices[1].text] == texts
    assert [c.finish_reason for c in answer.choices] == ["length", "length"]
    read = sum(len(generator.encode(text)) for text in ("ba ko", "mi"))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (read, 14)


def test_tokens_are_a_prompt(call, models: Models):
    ids = models.get("lm").predictor.encode("ba ko")
    options = {**GREEDY, "max_tokens": 5}
    texts = [call(lambda c, p=prompt: c.completions.create(prompt=p, **options)).choices for prompt in ("ba ko", ids)]
    assert [c.text for c in texts[0]] == [c.text for c in texts[1]]


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 3, "n": 3, "temperature": 1.5}, {"beam": 3, "n": 2}])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_stream_is_the_whole_answer_in_pieces(call, options, stopped):
    request: Any = {"model": "lm", "prompt": ["ba", "ko mi"], "max_tokens": 20, "extra_body": options}
    whole = call(lambda c: c.completions.create(**request))
    stop = [whole.choices[0].text[5:9]] * stopped  # across two words
    if stopped:
        request["stop"] = stop
        whole = call(lambda c: c.completions.create(**request))
    usage = {"stream_options": {"include_usage": True}}
    chunks = call(lambda c: streamed(c.completions, **request, **usage), strict=False)
    texts, reasons = ["" for _ in whole.choices], {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
        assert "\N{REPLACEMENT CHARACTER}" not in choice.text[:-1]
        if choice.finish_reason:
            assert choice.index not in reasons
            reasons[choice.index] = choice.finish_reason
    assert texts == [c.text for c in whole.choices]
    assert [reasons[i] for i in range(len(texts))] == [c.finish_reason for c in whole.choices]
    assert chunks[-1].usage == whole.usage
    assert not any(s in text for text in texts for s in stop)
    assert not stop or "beam" in options or reasons[0] == "stop"


async def streamed(where: Any, **options: Any) -> list[Any]:
    return await collected(await where.create(stream=True, **options))


def test_a_character_of_several_tokens_comes_whole(call, models: Models, monkeypatch):
    generator = models.get("bytes").predictor
    engine, wanted = generator.engine, "žluťoučký 汉字"
    ids = generator.tokenizer.encode([wanted])[0].tolist()
    before, step = len(generator.encode("ba")), engine.step

    def told(last: Any, window: Any) -> Any:
        scores, window = step(last, window)
        at = window.values.shape[1] - before
        return torch.zeros_like(scores).index_fill_(1, torch.tensor([[*ids, generator.tokenizer.stop][at]]), 9), window

    monkeypatch.setattr(engine, "step", told)
    options: Any = {"model": "bytes", "prompt": "ba", "max_tokens": 50, "temperature": 0}
    chunks = call(lambda c: streamed(c.completions, **options), strict=False)
    texts = [choice.text for chunk in chunks for choice in chunk.choices]
    assert "".join(texts).strip() == wanted
    assert 8 < len(texts) < len(ids)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)
    assert chunks[-1].choices[0].finish_reason == "stop"
    answer = call(lambda c: c.completions.create(**options, logprobs=0))
    assert "".join(answer.choices[0].logprobs.tokens) == answer.choices[0].text
    assert answer.usage.completion_tokens == len(ids)


def test_log_probabilities_are_those_of_the_score(call, models: Models):
    generator = models.get("lm").predictor
    request: Any = {"prompt": "ba ko", "max_tokens": 6, "logprobs": 2, **GREEDY}
    (choice,) = call(lambda c: c.completions.create(**request)).choices
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.text_offset[0] == len("ba ko")
    ids = generator.encode("ba ko")
    text = generator("ba ko", kind="greedy", max_length=6)
    listed = generator.engine.read(generator.encode(text))[-6:]
    assert choice.logprobs.token_logprobs == pytest.approx([c.log_p for c in listed], abs=1e-5)
    for log_p, top in zip(choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, strict=True):
        assert len(top) == 2
        assert max(top.values()) == pytest.approx(log_p, abs=1e-6)  # it is the most probable
    (echoed,) = call(lambda c: c.completions.create(**request, echo=True), strict=False).choices
    assert echoed.text == "ba ko" + choice.text
    assert echoed.logprobs.token_logprobs[0] is None
    ((log_p, tokens),) = generator.score([" ko"], ["ba"])
    prompt = echoed.logprobs.token_logprobs[: len(ids)]
    assert sum(prompt[-tokens:]) == pytest.approx(log_p, abs=1e-4)
    assert echoed.logprobs.token_logprobs[len(ids) :] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-5)


def test_a_chat_is_a_reply(call, models: Models):
    generator = models.get("lm").predictor
    said: Any = [{"role": "system", "content": "ba"}, {"role": "user", "content": [{"type": "text", "text": "ko"}]}]
    request: Any = {"messages": said, "max_completion_tokens": 9, **GREEDY}
    answer = call(lambda c: c.chat.completions.create(**request, logprobs=True, top_logprobs=2))
    turns = [Message("system", "ba"), Message("user", "ko")]
    assert answer.choices[0].message.content == "".join(generator.reply(turns, kind="greedy", max_length=9))
    assert answer.usage.completion_tokens == len(answer.choices[0].logprobs.content) <= 9
    chunks = call(lambda c: streamed(c.chat.completions, **request, stream_options={"include_usage": True}))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == answer.choices[0].message.content
    assert chunks[-1].usage == answer.usage
    call(lambda c: c.chat.completions.create(model="lm", messages=said))


def test_embeddings_have_length_one(call):
    texts = ["ba ko", "mi"]
    vectors = call(lambda c: c.embeddings.create(model="words", input=texts, encoding_format="float")).data
    assert [sum(v * v for v in row.embedding) for row in vectors] == pytest.approx([1, 1], abs=1e-5)
    coded = call(lambda c: c.embeddings.create(model="words", input=texts), strict=False).data
    assert [row.embedding for row in coded] == [pytest.approx(row.embedding) for row in vectors]


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"model": "mt"}, openai.BadRequestError, "model_not_supported"),
        ({"prompt": "ba " * 80}, openai.BadRequestError, "context_length_exceeded"),
        ({"max_tokens": 64}, openai.BadRequestError, "context_length_exceeded"),
        ({"prompt": [10**6]}, openai.BadRequestError, None),
        ({"n": 9}, openai.BadRequestError, "less_than_equal"),
        ({"extra_body": {"beam": 17}}, openai.BadRequestError, "less_than_equal"),
        ({"extra_body": {"tools": []}}, openai.BadRequestError, "extra_forbidden"),
        ({"frequency_penalty": 0.5}, openai.BadRequestError, "literal_error"),
        ({"logit_bias": {"5": 1}}, openai.BadRequestError, "literal_error"),
        ({"suffix": "ko"}, openai.BadRequestError, "literal_error"),
        ({"best_of": 2}, openai.BadRequestError, "literal_error"),
        ({"best_of": 2, "n": 1}, openai.BadRequestError, "literal_error"),
        ({"temperature": 0.5, "extra_body": {"length_penalty": 2}}, openai.BadRequestError, None),
    ],
)
def test_a_wrong_request_is_refused_with_openais_codes(call, options, error, code):
    with pytest.raises(error) as raised:
        call(lambda c: c.completions.create(**{"model": "lm", "prompt": "ba"} | options))
    assert raised.value.code == code
    with pytest.raises(error):  # a stream too, before it begins
        call(lambda c: streamed(c.completions, **{"model": "lm", "prompt": "ba"} | options))


UNCHANGED: Any = {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {"5": 0}, "n": 1, "user": "me"}


@pytest.mark.parametrize(
    "unchanged",
    [
        {**UNCHANGED, "best_of": 1, "suffix": "", "echo": False},
        {"extra_body": dict.fromkeys([*UNCHANGED, "best_of", "suffix", "echo", "stream", "stop", "logprobs"])},
        {"n": 2, "best_of": 2},
    ],
)
def test_what_changes_nothing_of_a_completion_is_accepted(call, unchanged):
    request: Any = {"prompt": "ba ko", "max_tokens": 5, **GREEDY}
    plain, other = (call(lambda c, r=r: c.completions.create(**r)).choices for r in (request, request | unchanged))
    assert {choice.text for choice in other} == {plain[0].text}


REPLIED: Any = {"model": "lm", "temperature": 0, "max_tokens": 5, "messages": [{"role": "user", "content": "ba"}]}
OFFERED_NOWHERE: Any = [
    ("tools", [], [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "none", "required"),
    ("functions", [], [{"name": "f"}]),
    ("function_call", "auto", {"name": "f"}),
    ("modalities", ["text"], ["text", "audio"]),
    ("service_tier", "auto", "priority"),
    ("reasoning_effort", "none", "high"),
    ("verbosity", "medium", "low"),
    ("store", False, True),
    ("response_format", {"type": "text"}, {"type": "json_object"}),
    ("audio", None, {"format": "wav", "voice": "alloy"}),
]


@pytest.mark.parametrize(("name", "unchanged", "changed"), OFFERED_NOWHERE)
def test_what_is_not_offered_is_accepted_where_it_changes_nothing(call, name, unchanged, changed):
    def reply(**options: Any) -> Any:
        return call(lambda c: c.chat.completions.create(**REPLIED, extra_body=options)).choices[0].message.content

    assert reply(**{name: unchanged}) == reply(**{name: None}) == reply()
    with pytest.raises(openai.BadRequestError) as raised:
        reply(**{name: changed})
    assert raised.value.param.startswith(name)


def test_labels_of_a_request_and_its_own_reply_sent_back_are_accepted(call):
    labels: Any = {"metadata": {"a": "b"}, "safety_identifier": "me", "prompt_cache_key": "k", "user": "me"}
    reply = call(lambda c: c.chat.completions.create(**REPLIED, **labels, parallel_tool_calls=True)).choices[0].message
    turns = [*REPLIED["messages"], reply.model_dump(), {"role": "user", "content": "ko"}]
    assert call(lambda c: c.chat.completions.create(**REPLIED | {"messages": turns})).choices[0].message.content
