"""Texts decoded by several streams: what one thread gives, and only where that may be and is faster."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import torch

from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling
from seqloom.decoding.streams import Streams
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.effective import by_row
from seqloom.nn.observe import observed
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.engine import settled
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
TOKENIZER: Tokenizer = train_tokenizer(WordLevel(), [" ".join(WORDS)])
TEXTS = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 7]) for i in range(70)]
FORM = TransformerConfig(layers=1, width=24, inner=20, heads=2)


def sure(model: Any) -> Any:
    """With weights large enough for texts that differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    return model.eval()


def translator() -> Translator:
    config = EncoderDecoderConfig(encoder=FORM, decoder=FORM, tie="none")
    model = sure(EncoderDecoder(config, TOKENIZER.vocab_size, TOKENIZER.vocab_size))
    return Translator(model, TOKENIZER, TOKENIZER, Greedy(max_length=9), rows=16)


def generator() -> Generator:
    model = sure(LanguageModel(DecoderOnlyConfig(decoder=FORM), TOKENIZER.vocab_size))
    return Generator(model, TOKENIZER, Greedy(max_length=9), 12)


class Counted(Streams):
    """Two streams of a predictor, which is closed; it counts the batches they get."""

    def __init__(self, predictor: Any) -> None:
        super().__init__(predictor.hypotheses, 2)
        self.batches, self.predictor, predictor.streams = 0, predictor, self

    def __call__(self, calls: Any) -> Any:
        self.batches += len(calls)
        return super().__call__(calls)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.predictor.streams = None


@pytest.mark.parametrize("config", [Greedy(max_length=9), BeamSearch(beam=3, n_best=2, max_length=9)], ids=str)
def test_they_give_the_very_results_of_one_thread(config: DecodingConfig) -> None:
    torch.set_num_threads(1)
    made, continued = translator(), generator()
    made.config = continued.config = config
    prefixes = ["two"] * 35 + [""] * 35
    ways = (partial(made.translate, TEXTS, prefixes), partial(continued.batch, TEXTS, ["two"]))
    for predictor, batches, decode in zip((made, continued), (5, 3), ways, strict=True):
        expected = decode()
        torch.set_num_threads(2)
        with Counted(predictor) as streams:
            assert decode() == expected
            assert streams.batches == batches
        torch.set_num_threads(1)
        assert len({results[0].log_p for results in expected}) > 20


@pytest.mark.parametrize("make", [translator, generator])
def test_whoever_looks_adapters_samples_and_single_batches_take_none(make: Any) -> None:
    predictor = make()
    decode = predictor.translate if make is translator else predictor.batch
    adapters = torch.zeros(70, dtype=torch.long)
    drawn = {"kind": "sample", "seed": 5}
    before = [decode(TEXTS), decode(TEXTS, **drawn)]
    with Counted(predictor) as streams:
        with observed(lambda *_: None):
            assert decode(TEXTS) == before[0]
        hook = predictor.model.register_forward_hook(lambda *_: None)
        assert decode(TEXTS) == before[0]
        hook.remove()
        with by_row(adapters):
            assert decode(TEXTS) == before[0]
        assert decode(TEXTS, **drawn) == before[1]
        assert len(decode(TEXTS[:1])) == 1
        assert streams.batches == 0
        assert decode(TEXTS) == before[0]
        assert streams.batches == 5 - 2 * (make is generator)


class Timed(Generator):
    """It takes a second of a clock, three with `slow` threads, and so many in a stream."""

    def __init__(self, slow: int, beside: float, **options: Any) -> None:
        vars(self).update(vars(generator()) | options)
        self.slow, self.beside, self.lock = slow, beside, threading.Lock()
        self.rows, self.seconds = list[int](), 0.0

    def hypotheses(self, rows: Any, config: DecodingConfig, stop: Any = ()) -> Any:
        self.rows.append(len(rows))
        here = 3.0 if torch.get_num_threads() == self.slow else 1.0
        with self.lock:
            self.seconds += here if threading.current_thread() is threading.main_thread() else self.beside
        return [[]] * len(rows)


@pytest.mark.parametrize("slow", [1, 2])
@pytest.mark.parametrize(("beside", "count", "taken"), [(0.9, 64, True), (1.1, 64, False), (0.9, 5, False)])
def test_the_fastest_of_three_ways_is_taken(slow: int, beside: float, count: int, taken: bool) -> None:
    torch.set_num_threads(2)
    timed = Timed(slow, beside)
    with settled(timed, count, lambda: timed.seconds):
        assert torch.get_num_threads() == 3 - slow
        assert {*timed.rows} == {min(count, 32)}
        assert (timed.streams is not None) == taken
    assert timed.streams is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]
    assert torch.get_num_threads() == 2


def test_samples_ctranslate2_and_one_thread_keep_their_threads() -> None:
    for threads, options in (
        *((2, {"config": Sampling()}), (2, {"fast": object()}), (2, {"source": object()})),
        (1, {"config": Greedy()}),
    ):
        torch.set_num_threads(threads)
        timed = Timed(2, 0.1, **options)
        with settled(timed, 64, lambda timed=timed: timed.seconds):
            assert (torch.get_num_threads(), timed.streams, timed.rows) == (threads, None, [])
