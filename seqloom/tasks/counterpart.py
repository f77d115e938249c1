"""A run in use beside transformers with the same model: what a task needs to compare its answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from seqloom.models.assemblies import Model, limit_of
from seqloom.tasks.assets import Assets
from seqloom.text.tokenizer import Tokenizer

NEW = 20
"""The most tokens that are generated for a comparison."""
GREEDY: dict[str, Any] = {
    **{"do_sample": False, "num_beams": 1, "max_length": None, "use_cache": False},
    "forced_eos_token_id": None,  # which would be one of the tokens that are generated
}
"""How transformers generates for a comparison."""
Compared = Iterable[tuple[object, object, object]]
"""Inputs, each with the answer here and the other one."""


class Counterpart:
    """The other program's model and tokenizer, and the run as a predictor.

    Args:
        config, model, heads, assets: those of the run, the model as other programs see it.
        theirs, folder: the model of transformers, and where it comes from.
    """

    def __init__(
        self, config: Any, model: Model, heads: Mapping[str, int], assets: Assets, theirs: Any, folder: Path
    ) -> None:
        import transformers

        self.transformers: Any = transformers
        self.config, self.model, self.heads, self.assets, self.theirs = config, model, heads, assets, theirs
        pair: Any = assets.tokenizers or (None, None)
        self.source: Tokenizer = pair[0]
        self.tokenizer: Tokenizer = pair[1]
        kind = "AutoTokenizer" if assets.tokenizers else "AutoImageProcessor"
        self.words: Any = getattr(self.transformers, kind).from_pretrained(folder)
        self.reader: Any = self.words
        if (file := folder / "tokenizer.source.json").is_file():
            self.reader = self.transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))
        lengths = limit_of(model.config), getattr(getattr(config, "batches", None), "length", None)
        self.limit: int = min(length or 1 << 30 for length in lengths)

    @cached_property
    def predictor(self) -> Any:
        """The run in use."""
        return self.config.predictor(self.model, self.assets)

    def pipeline(self, task: str, **options: Any) -> Any:
        """A pipeline of transformers."""
        read = "tokenizer" if self.assets.tokenizers else "image_processor"
        return self.transformers.pipeline(task, model=self.theirs, **{read: self.words}, device="cpu", **options)

    def read(self, *texts: str) -> Any:
        """What their tokenizer makes of a text or a pair."""
        return self.reader(*texts, return_tensors="pt")

    def has_unknown(self, *texts: str) -> bool:
        """Whether a text shows the unknown token, or has one: transformers leaves it out of what it writes."""
        name = str(self.tokenizer.inner.id_to_token(self.tokenizer.unknown))
        rows = self.tokenizer.encode(texts)
        return any(name in text for text in texts) or any(self.tokenizer.unknown in row for row in rows)

    def greedy(self) -> dict[str, Any]:
        """Greedy decoding with what else the run does to probabilities."""
        kept = ("repetition_penalty", "no_repeat_ngram", "count_prompt", "min_length")
        return {"kind": "greedy", "max_length": NEW, **{name: getattr(self.predictor.config, name) for name in kept}}
