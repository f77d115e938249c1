"""Small models with random weights, as runs, and a server of them in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from in_process import clients
from made_up import sentences

from seqloom.config import build, to_toml
from seqloom.data.batches.masked import with_mask
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.batches.windows import TextBatchConfig
from seqloom.data.sources.chats.conversations import Conversations
from seqloom.data.sources.labelled import LabelledFiles, QuestionFiles
from seqloom.data.sources.none import NoData
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Run
from seqloom.serving.limits import Access
from seqloom.serving.served import Models, load_models
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.answer import AnswerConfig
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.encoder.masked_words import MaskedWordsConfig
from seqloom.tasks.encoder.tag import TagConfig
from seqloom.tasks.language_model.forecast import ForecastConfig
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.multimodal.task import MultimodalTask
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.chat import with_chat
from seqloom.text.tokenizer import BPE, WordLevel
from seqloom.text.training import train_tokenizer
from seqloom.training.checkpoint import save_finished

SIZES: Any = {"layers": 1, "width": 16, "inner": 16, "heads": 2}
STACK = TransformerConfig(**SIZES)
READER = EncoderOnlyConfig(encoder=STACK)
CONTEXT = 64
NAMES = ("lm", "bytes", "mt", "label", "span", "words", "pictures")
NAMES += ("waves", "steps", "pens", "ahead", "scenes", "guide", "vectors")
BYTES, WORDS = BPE(size=290), WordLevel(size=20)


def write_run(folder: Path, name: str, config: Any, facts: Any = None) -> str:
    """A run of a config with random weights; its tokenizer knows the words that are made up."""
    tokenizer = with_mask(with_chat(train_tokenizer(getattr(config, "tokenizer", BYTES), sentences(40, 3))))
    texts = hasattr(config, "decoding") or config.parts or getattr(config, "modality", "text") == "text"
    assets = Assets((tokenizer, tokenizer) if texts else None, facts)
    torch.manual_seed(5)
    model = config.build(assets)
    weights = {key: value.detach() for key, value in model.named_parameters()}
    for value in weights.values():
        if value.dim() == 2:  # so large that one token is likelier than others, and a word likelier than an end
            value.normal_(std=0.5)
            if len(value) == tokenizer.vocab_size:
                value[sorted(tokenizer._special)] = 0
    about = {"task": config.task, "versions": {}}
    save_finished(Run(folder / name), to_toml(config), about, weights, assets.save)
    return str(folder / name)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs that NAMES has."""
    folder = tmp_path_factory.mktemp("serving")
    reading: Any = {"tokenizer": BYTES, "model": READER}
    writers = EncoderDecoderConfig(encoder=STACK, decoder=STACK)
    stream = StreamConfig(length=CONTEXT)
    decoder: DecoderOnlyConfig = build(DecoderOnlyConfig, {"preset": "gpt2", "decoder": SIZES})
    for name, tokenizer in (("lm", WORDS), ("bytes", BYTES)):
        data = Conversations(("none",))
        config = LanguageModelConfig(data=data, tokenizer=tokenizer, model=decoder, batches=stream)
        write_run(folder, name, config)
    write_run(folder, "mt", TranslateConfig(data=NoData(), tokenizer=BYTES, model=writers))
    short = TextBatchConfig(length=24)
    labels = {"labels": ["few", "many"]}
    write_run(folder, "label", ClassifyConfig(data=LabelledFiles(("none",)), batches=short, **reading), labels)
    windows = TextBatchConfig(length=24, long="windows")
    write_run(folder, "span", AnswerConfig(data=QuestionFiles(("none",)), batches=windows, **reading), {})
    write_run(folder, "words", MaskedWordsConfig(data=NoData(), **reading), {"heads": {"masked": 0}})
    images = {"data": {"kind": "images", "train": ["none"]}, "model": {"encoder": SIZES}, "batches": {"tokens": 99}}
    seen = {"sizes": {"size": 8, "channels": 1}, "scale": {"mean": [99.0], "deviation": [50.0]}}
    write_run(folder, "pictures", build(ClassifyConfig, {"task": "classify", **images}), labels | seen)
    write_other_runs(folder)
    return folder


def write_other_runs(folder: Path) -> None:
    """Runs of signals (waves, steps, pens, ahead), of captions (scenes), of texts beside pictures (guide), of several
    tasks (both), of vectors alone.
    """
    data: Any = {"data": {"kind": "signals", "train": ["none"]}}
    seen = {"sizes": {"channels": 2}, "scale": {"mean": [0.0, 9.0], "deviation": [1.0, 3.0]}}
    front = {"strides": [2], "kernel": 3}
    reading = {**data, "model": {"encoder": SIZES, "front": front}, "batches": {"length": 30}}
    write_run(folder, "waves", build(ClassifyConfig, reading), {"labels": ["fast", "slow"], **seen})
    tagging = {**data, "batches": {"length": 30}, "model": {"encoder": {"width": 8}}}
    write_run(folder, "steps", build(TagConfig, tagging), {"labels": ["rest", "move"], **seen})
    sized = {"width": 16, "layers": 1}
    writing: Any = {"tokenizer": {"size": 290}, "decoding": {"max_length": 9}}
    both = {"encoder": sized, "decoder": sized}
    write_run(folder, "pens", build(TranslateConfig, {**data, **writing, "model": both}), seen)
    ahead = build(ForecastConfig, {**data, "horizon": 5, "model": {"decoder": sized}})
    write_run(folder, "ahead", ahead, {**seen, "channels": ["north", "east"], "autoregression": [[[0.0, 0.0]] * 3] * 2})
    captions = {"data": {"kind": "captions", "train": ["none"], "size": 8}, **writing}
    pixels = {"sizes": {"size": 8, "channels": 1}, "scale": {"mean": [99.0], "deviation": [50.0]}}
    source = {"preset": "vit-transformer", "source": {"patch": 4}, "encoder": SIZES, "decoder": SIZES}
    write_run(folder, "scenes", build(TranslateConfig, {**captions, "model": source}), pixels)
    tasks = {
        "marks": {"kind": "classify", "data": {"kind": "images", "train": ["none"]}, "batches": {"tokens": 99}},
        "waves": {"kind": "classify", **data, "batches": {"length": 30}},
        "scenes": {"kind": "translate", "data": captions["data"], "decoding": {"max_length": 9}},
        "films": {"kind": "classify", "data": {"train": ["none"]}, "batches": {"length": 30}},
    }
    encoders = {name: {"encoder": SIZES} for name in ("image", "signal", "text")}
    several = build(
        MultimodalTask, {"tasks": tasks, "tokenizer": {"size": 290}, "model": {"encoders": encoders, "decoder": SIZES}}
    )
    labels = {"labels": ["few", "many"]}
    write_run(
        folder, "both", several, {"marks": labels | pixels, "waves": labels | seen, "scenes": pixels, "films": labels}
    )
    illustrated = {**tasks["scenes"], "data": {**captions["data"], "kind": "illustrated"}}
    read = {name: encoders[name] for name in ("image", "text")}
    more = {"tokenizer": {"size": 290}, "model": {"encoders": read, "decoder": SIZES}}
    write_run(folder, "guide", build(MultimodalTask, {"tasks": {"german": illustrated}, **more}), {"german": pixels})
    write_run(folder, "vectors", MaskedWordsConfig(data=NoData(), tokenizer=BYTES, model=READER), {"heads": {}})


@pytest.fixture(scope="session")
def models(runs: Path) -> Iterator[Models]:
    """All of them, loaded."""
    loaded = load_models([str(runs / name) for name in NAMES], pytest.fail)
    yield loaded
    loaded.close()


Ask = Callable[..., Any]


@pytest.fixture
def ask(models: Models) -> Ask:
    """(method, path, **options) -> the response of a server of the models."""

    def asked(method: str, path: str, access: Access | None = None, **options: Any) -> Any:
        async def go() -> httpx2.Response:
            async with clients(models, access) as client:
                return await client.request(method, path, **options)

        return asyncio.run(go())

    return asked


@pytest.fixture
def call(models: Models) -> Ask:
    """(coroutine function of an openai client) -> its result; every response is as OpenAI's types have it."""

    def called(use: Callable[[openai.AsyncOpenAI], Any], strict: bool = True) -> Any:
        async def go() -> Any:
            async with clients(models) as http:
                more: Any = {"http_client": http, "max_retries": 0, "_strict_response_validation": strict}
                async with openai.AsyncOpenAI(api_key="none", base_url="http://127.0.0.1:8000/v1", **more) as client:
                    return await use(client)

        return asyncio.run(go())

    return called
