"""CTranslate2 in the place of our own decoding: the same results, or ours."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling
from seqloom.decoding.continuous import Update
from seqloom.decoding.ctranslate import CTranslate2, refusal
from seqloom.inspection.capture import look
from seqloom.inspection.inside.switching import heads_set
from seqloom.interop.ctranslate import POSITIONS, write_ctranslate2
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.effective import by_row
from seqloom.nn.positions import Learned, Relative, Rotary
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.engine import Fast, names_and_ends
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: its decoding is not compared")

WORDS = "one two three four five six seven eight nine ten eleven twelve"
TOKENIZER: Tokenizer = train_tokenizer(WordLevel(), [WORDS])
TEXTS = ["one two three four five six seven", "two", "three one", "nine nine nine ten", "eight seven six five four"]
PLAIN = TransformerConfig(layers=2, width=24, inner=20, heads=2)
FORMS = {
    "plain": PLAIN,
    "after": replace(PLAIN, norm_position="after", activation="gelu"),
    "learned": replace(PLAIN, positions=Learned(length=40)),
    "relative": replace(PLAIN, positions=Relative(), norm="rms", bias=False),
}
CONTINUED = {
    "learned": replace(PLAIN, positions=Learned(length=40), activation="gelu-tanh"),
    "llama": replace(PLAIN, positions=Rotary(), norm="rms", activation="swiglu", bias=False, kv_heads=1),
}
HOW = (
    Greedy(max_length=12),
    BeamSearch(beam=4, max_length=15),
    BeamSearch(beam=3, n_best=3, max_length=15, length_penalty=0.6),
    BeamSearch(beam=2, max_length=15, length_penalty=0.0),
)


def opinionated(model: Any) -> Any:
    """With random weights, but surer than such are, and with an end now and then."""
    torch.manual_seed(10)
    with torch.no_grad():
        for parameter in model.parameters():
            matrix, scale = parameter.ndim > 1, float(parameter.mean() > 0.5)
            torch.nn.init.normal_(parameter, mean=0.0 if matrix else scale, std=0.5 if matrix else 0.3)
    return model.eval()


def translator(form: TransformerConfig = PLAIN) -> Translator:
    config = EncoderDecoderConfig(encoder=form, decoder=form, tie="none")
    model = opinionated(EncoderDecoder(config, TOKENIZER.vocab_size, TOKENIZER.vocab_size))
    return Translator(model, TOKENIZER, TOKENIZER, Greedy())


def generator(form: TransformerConfig, context: int = 64) -> Generator:
    model = opinionated(LanguageModel(DecoderOnlyConfig(decoder=form), TOKENIZER.vocab_size))
    return Generator(model, TOKENIZER, Greedy(), context)


def other(predictor: Any, folder: Path, **options: Any) -> CTranslate2:
    write_ctranslate2(folder, predictor.model, (TOKENIZER, TOKENIZER))
    names, ends = names_and_ends(predictor.model, (TOKENIZER, TOKENIZER))
    return CTranslate2(folder, names, ends, threads=1, large=False, **options)


class Noted(Fast):
    """It notes which jobs our own engine got, and what was said."""

    def __init__(self, predictor: Any, folder: Path, room: int = POSITIONS) -> None:
        self.left, self.told, self.at_once = list[int](), list[str](), 0
        super().__init__(predictor.model, lambda: other(predictor, folder), room, self.told.append)

    def decode(self, jobs: Any, own: Any) -> Any:
        def noted(part: Any) -> Any:
            self.left += part
            return own(part)

        return super().decode(jobs, noted)

    def whole(self, jobs: Any) -> Any:
        found = super().whole(jobs)
        self.at_once += sum(each is not None for each in found)
        return found


def agree(ours: Any, theirs: Any) -> None:
    assert [[h.ids for h in row] for row in ours] == [[h.ids for h in row] for row in theirs]
    assert [[h.reason for h in row] for row in ours] == [[h.reason for h in row] for row in theirs]
    for a, b in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert (a.log_p, a.score) == pytest.approx((b.log_p, b.score), abs=2e-4)


@pytest.mark.parametrize("config", HOW, ids=lambda c: f"{c.kind}-{c.beam}-{c.length_penalty}")
@pytest.mark.parametrize("form", FORMS)
def test_it_writes_what_our_own_engine_writes(form: str, config: DecodingConfig, tmp_path: Path) -> None:
    made = translator(FORMS[form])
    rows = made.encode(TEXTS)
    ours = made.hypotheses(rows, config)
    made.fast = noted = Noted(made, tmp_path / "model")
    agree(ours, made.hypotheses(rows, config))
    assert not noted.told
    assert config.beam > 1 or not noted.left
    assert form in ("plain", "after") or len(noted.left) < len(rows)


@pytest.mark.parametrize("config", HOW[:2], ids=lambda c: c.kind)
@pytest.mark.parametrize("form", CONTINUED)
def test_it_continues_as_our_own_engine_does(form: str, config: DecodingConfig, tmp_path: Path) -> None:
    made = generator(CONTINUED[form])
    rows = [made.encode(text) for text in TEXTS]
    ours = made.hypotheses(rows, config)
    streamed = ["".join(made.stream(text, max_length=12)) for text in TEXTS]
    made.fast = noted = Noted(made, tmp_path / "model")
    agree(ours, made.hypotheses(rows, config))
    assert ["".join(made.stream(text, max_length=12)) for text in TEXTS] == streamed
    assert not noted.told
    assert config.beam > 1 or not noted.left


def test_what_it_cannot_say_is_ours_and_said_once(tmp_path: Path) -> None:
    made = generator(CONTINUED["llama"], context=14)
    wanted = made.batch(TEXTS, max_length=8)
    ended = made.batch(["one two"], stop=["t"], max_length=9)
    drawn = made.batch(["one"], kind="sample", seed=4, max_length=5)
    made.fast = noted = Noted(made, tmp_path / "model", room=14)
    assert [row[0].text for row in made.batch(TEXTS, max_length=8)] == [row[0].text for row in wanted]
    assert {*noted.left} == {i for i, text in enumerate(TEXTS) if len(made.encode(text)) + 8 > 14} != set()
    for _ in range(2):
        assert made.batch(["one two"], stop=["t"], max_length=9) == ended
        assert made.batch(["one"], kind="sample", seed=4, max_length=5) == drawn
    assert noted.told == [
        f"{what} is not for CTranslate2: our own engine decodes"
        for what in ("texts that end before a string", "decoding.kind = 'sample'")
    ]


def test_prefixes_and_adapters_are_ours(tmp_path: Path) -> None:
    made = translator()
    begun = made.translate(["two"], ["three"], max_length=6)
    made.fast = noted = Noted(made, tmp_path / "model")
    assert made.translate(["two"], ["three"], max_length=6) == begun
    with by_row(torch.zeros(1, dtype=torch.long)):
        made.translate(["two"], max_length=6)
    assert [told.partition(" is not")[0] for told in noted.told] == ["a beginning that is given", "adapters"]
    assert noted.left == [0, 0]


@pytest.mark.parametrize("how", [HOW[0], HOW[1]], ids=lambda c: c.kind)
def test_a_model_that_is_looked_into_or_changed_decodes_here(how: DecodingConfig, tmp_path: Path) -> None:
    made = translator(FORMS["relative"])
    rows = made.encode(TEXTS)
    made.fast = noted = Noted(made, tmp_path / "model")
    before = made.hypotheses(rows, how)
    with look(made.model) as seen:
        made.hypotheses(rows, how)
    assert [*seen.attention]
    found = []
    for fast in (noted, None):
        made.fast = fast
        with heads_set(made.model, "decoder.stack.blocks.0.cross", {0: 0.0, 1: 0.0}):
            found.append(made.hypotheses(rows, how))
    agree(*found)
    assert [[h.ids for h in row] for row in found[0]] != [[h.ids for h in row] for row in before]


def test_a_text_that_is_looked_into_is_streamed_here(tmp_path: Path) -> None:
    made = generator(CONTINUED["llama"])
    made.fast = Noted(made, tmp_path / "model")
    with look(made.model) as seen:
        list(made.stream("two", max_length=3))
    assert [*seen.attention]


def test_jobs_that_go_together_are_decoded_at_once(tmp_path: Path) -> None:
    made = translator(FORMS["learned"])
    writings = [made.job(text, max_length=n) for text, n in zip(TEXTS, (3, 12, 6, 9, 4), strict=True)]
    writings += [made.job(TEXTS[0], "two", max_length=5), made.job(TEXTS[1], max_length=5, top=1)]
    jobs = [writing.job for writing in writings]

    def all_of() -> dict[Any, Any]:
        running, updates = made.continuous(rows=4), list[Update]()
        for job in jobs:
            running.join(job)
        while len(running):
            updates += running.step()
        assert all(
            [c.id for u in updates if u.job is job for c in u.chosen] == [*u.hypotheses[0].ids]
            for job in jobs
            for u in updates
            if u.job is job and u.hypotheses
        )
        return {u.job: u.hypotheses for u in updates if u.hypotheses is not None}

    ours = all_of()
    made.fast = noted = Noted(made, tmp_path / "model")
    theirs = all_of()
    agree([ours[job] for job in jobs], [theirs[job] for job in jobs])
    assert noted.at_once == len(TEXTS)


OTHER: dict[str, Any] = {
    **{"min_length": 1, "repetition_penalty": 1.1, "no_repeat_ngram": 2, "count_prompt": True},
    **{
        "coverage_penalty": 0.1,
        "stop": "likely",
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.5,
        "min_p": 0.1,
        "seed": 2,
    },
    **{"max_length": 7, "length_penalty": 0.5, "beam": 2, "n_best": 2},
}


@pytest.mark.parametrize("kind", [Greedy, BeamSearch, Sampling], ids=lambda kind: kind.kind)
def test_every_key_of_decoding_is_alike_or_refused(kind: type[Any]) -> None:
    same = {"max_length", "length_penalty", "beam", "n_best"}
    assert {field.name for field in fields(kind)} <= {*OTHER}
    for field in fields(kind):
        found = refusal(kind(**{field.name: OTHER[field.name]}))
        if kind is Sampling:
            assert found == "decoding.kind = 'sample'"
        else:
            assert found == ("" if field.name in same else f"decoding.{field.name} = {OTHER[field.name]!r}")
    assert not refusal(BeamSearch(beam=1, stop="likely"))


def test_torch_keeps_its_threads(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    other(translator(), tmp_path)
    assert torch.get_num_threads() == 2


def test_eight_bits_are_near(tmp_path: Path) -> None:
    made = translator(replace(PLAIN, width=64, inner=64))
    row, ids = made.encode(TEXTS)[0], (4, 5, 6)
    exact, rounded = (other(made, tmp_path / str(bits), int8=bits).log_p(row, ids) for bits in (False, True))
    assert 1e-4 < abs(exact - rounded) < 0.05 * abs(exact)
