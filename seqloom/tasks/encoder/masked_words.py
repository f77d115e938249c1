"""Masked language modelling: an encoder model (BERT) from running text, for use or for fine-tuning."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom.data.batches.masked import MASKS, Documents, MaskConfig, MaskedBatches, has_mask, mask_of, with_mask
from seqloom.data.batches.windows import Window
from seqloom.data.rows import Text
from seqloom.data.sources.none import NoData
from seqloom.data.sources.text import TextFiles
from seqloom.errors import RunError, UsageError
from seqloom.files import Json
from seqloom.inspection.capture import MOST
from seqloom.inspection.inside.inspected import Inspected
from seqloom.models.assemblies import parameter_count
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.embedders import Inputs
from seqloom.objectives.reading import MaskedTokens, masked
from seqloom.run import Run
from seqloom.tasks.assets import Assets
from seqloom.tasks.building import tokenizer_for
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.embed import compared_vectors
from seqloom.tasks.encoder.task import SHOWN, ReadingConfig, seen
from seqloom.tasks.looking import look_at_window
from seqloom.tasks.task import Prepared, Seen, tested_on
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.config import Metric
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter

_TEST_SEED = 0  # of the masks in every evaluation


@dataclass(frozen=True, kw_only=True)
class MaskedWordsConfig(ReadingConfig):
    """The config of a run of masked language modelling.

    Args:
        data: the text it learns from, and is evaluated and tested with.
    """

    task: Literal["masked_words"] = "masked_words"
    data: TextFiles | NoData
    objective: MaskedTokens = field(default_factory=MaskedTokens)
    batches: MaskConfig = field(default_factory=MaskConfig)
    used_by: ClassVar[str] = "fill"
    other_run: ClassVar[str] = "name a run of the task masked_words"
    metrics: ClassVar[tuple[Metric, ...]] = ("loss", "accuracy")

    @property
    def pairs(self) -> bool:
        """Whether a second text follows."""
        return self.batches.next_sentence

    def heads(self, facts: Json) -> dict[str, int]:
        """See ReadingConfig."""
        return dict(facts["heads"])

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See ReadingConfig."""
        texts = {name: split.text for name, split in self.data.splits(reporter.say, self.seed).items()}
        lines = [line for line in texts["train"].lines if line]
        tokenizer = with_mask(tokenizer_for(self, run, lambda: lines))
        batches = MaskedBatches(Documents.of(texts["train"], tokenizer), tokenizer, self.batches, self.seed)

        def measure(model: EncoderOnly) -> Callable[[int], Measured]:
            valid = MaskedBatches(Documents.of(texts["valid"], tokenizer), tokenizer, self.batches, _TEST_SEED)
            prompts = _prompts(texts["valid"], tokenizer)
            return lambda step: (_scores(model, valid), _filled(model, tokenizer, prompts, step))

        heads = {"masked": 0, **({"next": 2} if self.batches.next_sentence else {})}
        return self.prepared(
            {name: text.digest() for name, text in texts.items()},
            Assets((tokenizer, tokenizer), {"heads": heads}),
            batches,
            measure,
            lambda: [_summary(name, text, tokenizer) for name, text in texts.items()],
        )

    def predictor(self, model: EncoderOnly, assets: Assets, **options: Any) -> Filler:
        """See RunConfig."""
        return Filler(model, assets.tokenizer, self.batches.length, **options)

    def score(self, predictor: Filler, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: the scores of masked tokens, which are the same in every evaluation; there are no options."""
        files = tested_on(test, self.data.test, options)
        text = Documents.of(self.data.tested(files).text, predictor.tokenizer)
        reporter.say(f"reading {len(text.ids):,} tokens")
        began = time.perf_counter()
        scores = _scores(predictor.model, MaskedBatches(text, predictor.tokenizer, self.batches, _TEST_SEED))
        return {"tokens": len(text.ids), **scores, "seconds": round(time.perf_counter() - began, 3)}

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        if "masked" in other.heads and has_mask(other.tokenizer):
            yield "masked words", _masked(other, texts)
        yield from compared_vectors(other, texts)

    def look(self, run: Run, predictor: Filler, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: the attention within texts, by default within the last samples."""
        shown = list(texts) or [row["text"] for row in samples[-2:]]
        return seen([predictor.look(text, tokens=SHOWN) for text in shown], parameter_count(predictor.model))


def _summary(name: str, text: Text, tokenizer: Tokenizer) -> Json:
    documents = Documents.of(text, tokenizer)
    return {
        "split": name,
        "texts": len(documents.documents) - 1,
        "lines": len(documents.lines) - 1,
        **{k: v for k, v in text.sizes().items() if k != "bytes"},
        "tokens": len(documents.ids),
        "unknown": int((documents.ids == tokenizer.unknown).sum()),
    }


@torch.inference_mode()
def _scores(model: EncoderOnly, batches: MaskedBatches) -> dict[str, float]:
    """Loss, perplexity and accuracy (%) of the masked tokens, and the accuracy of next-sentence prediction."""
    device = next(model.parameters()).device
    nll, tokens, correct, next_correct, pairs = 0.0, 0, 0, 0, 0
    model.eval()
    for number in range(batches.per_epoch):
        batch = batches(number).to(device)
        memory = model(batch.inputs)
        hidden, targets = masked(memory, batch)
        log_p = model.heads["masked"](hidden).float().log_softmax(-1)
        nll -= float(log_p.gather(1, targets[:, None]).sum(dtype=torch.float64))
        correct += int((log_p.argmax(-1) == targets).sum())
        tokens += len(targets)
        if batch.pairs is not None:
            next_correct += int((model.score("next", memory).argmax(-1) == batch.pairs).sum())
            pairs += len(batch.pairs)
    scores = {"loss": nll / tokens, "perplexity": math.exp(min(nll / tokens, 50.0)), "accuracy": 100 * correct / tokens}
    return scores | ({"next_accuracy": 100 * next_correct / pairs} if pairs else {})


def _prompts(text: Text, tokenizer: Tokenizer) -> list[str]:
    """Some lines with a masked word in the middle."""
    name, _ = mask_of(tokenizer)
    rows = [line.split()[:24] for line in text.lines if line and len(line.split()) > 5]
    chosen = rows[len(rows) // 8 :: max(1, len(rows) // 4)][:4]
    return [" ".join([*row[: len(row) // 2], name, *row[len(row) // 2 + 1 :]]) for row in chosen]


def _filled(model: EncoderOnly, tokenizer: Tokenizer, prompts: Sequence[str], step: int) -> list[Json]:
    filler = Filler(model, tokenizer, 1 << 30)
    rows = [(prompt, filler(prompt)[0]) for prompt in prompts]
    return [{"step": step, "text": p, "predictions": " ".join(f"{w} {q:.2f}" for w, q in best)} for p, best in rows]


_MASKED = re.compile("|".join(map(re.escape, MASKS)))


def _masked(other: Counterpart, texts: Sequence[str]) -> Compared:
    fill, pipeline = other.predictor, other.pipeline("fill-mask")
    for text in texts:
        parts = text.split()
        masked = " ".join([*parts[: len(parts) // 2], fill.name, *parts[len(parts) // 2 + 1 :]])
        if len(other.read(masked).input_ids[0]) > other.limit:
            continue
        theirs = {row["token"]: row["score"] for row in pipeline(masked, top_k=5)}
        yield masked, dict(fill.ids(masked, 5)[0]), theirs


class Filler:
    """Predicts masked words: `filler("Paris is the <mask> of France")`.

    Args:
        model, tokenizer: those of a run of masked language modelling.
        length: the most tokens a text may have, with the special ones.
    """

    def __init__(self, model: EncoderOnly, tokenizer: Tokenizer, length: int) -> None:
        if "masked" not in model.heads:
            raise RunError("has no head for masked words", cure="train it: seqloom train CONFIG --start RUN")
        self.model, self.tokenizer = model, tokenizer
        self.length = min(length, model.config.encoder.limit or length)
        self.name, self.mask = mask_of(tokenizer)
        self._parsing = tokenizer.parsing(self.name)

    def encode(self, text: str) -> list[int]:
        """The ids of a text with its masked words written <mask> or [MASK]. Raises UsageError."""
        template = self.tokenizer.template
        text_ids = self._parsing.encode([_MASKED.sub(lambda _: self.name, text)])[0].tolist()
        ids = [*template.before, *text_ids, *template.after]
        if len(ids) > self.length:
            raise UsageError(f"has {len(ids)} tokens, the most is {self.length}", cure="shorten it")
        return ids

    def look(self, text: str, *, most: int = MOST, tokens: int = 0) -> Inspected:
        """What the model does with a text, masked words or not, or (0 = all) with its first so many tokens.

        Its outputs are the token of each position.
        """
        window = Window(np.array(self.encode(text))[: tokens or None])
        named = _MASKED.sub(lambda _: self.name, text)
        return look_at_window(self.model, "masked", window, [named], self._parsing, (), most)

    def __call__(self, text: str, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable tokens for each mask, with their probabilities."""
        return [[(self.tokenizer.decode([[i]])[0].strip(), p) for i, p in row] for row in self.ids(text, count)]

    @torch.inference_mode()
    def ids(self, text: str, count: int = 5) -> list[list[tuple[int, float]]]:
        """The ids of the most probable tokens for each mask, with their probabilities."""
        if not isinstance(text, str):
            raise UsageError("expected one text, got several", cure="fill one text at a time")
        if not _MASKED.search(text):
            raise UsageError("no word is masked", cure=f"write {self.name} in place of a word")
        ids = torch.tensor([self.encode(text)], device=next(self.model.parameters()).device)
        self.model.eval()
        states = self.model(Inputs.text(ids)).states[ids == self.mask]
        probabilities = self.model.heads["masked"](states).float().softmax(-1)
        best = probabilities.topk(min(count, probabilities.shape[-1]))
        return [list(zip(i, p, strict=True)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
