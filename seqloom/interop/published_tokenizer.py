"""The tokenizers of a published checkpoint, with the special tokens that its other files name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from seqloom.errors import RunError, UsageError
from seqloom.interop.fields import Json
from seqloom.interop.huggingface import read_json
from seqloom.interop.sentencepiece import read_sentencepiece
from seqloom.text.tokenizer import Special, Tokenizer

KEPT = (
    *("source.spm", "target.spm", "vocab.json", "merges.txt", "vocab.txt", "spiece.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "generation_config.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
)
"""Small files that an imported run keeps, and that its export contains again."""

_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))
"""The tokens of Pegasus before the pieces of its spiece.model, whose ids are shifted by 103 (Zhang et al. 2020)."""


def read_tokenizers(folder: Path, config: Json) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers of source and target, the same object if they share one; None for a vision model.

    Raises RunError if there is none, or if it has more tokens than the model.
    """
    vocab_size = int(config.get("vocab_size") or 0)
    if not vocab_size:
        return None
    inner = _read(folder, str(config.get("model_type")))
    settings = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}
    ids = {**config, **read_json(folder / "generation_config.json")}
    target, source = (_with_special(one, settings, ids, vocab_size, str(folder)) for one in inner)
    if target.inner.get_vocab_size() > vocab_size and not (folder / "target.spm").is_file():
        problem = f"its tokenizer has {target.inner.get_vocab_size():,} tokens, its model {vocab_size:,}"
        raise RunError(problem, where=str(folder), cure="replace it with the tokenizer that the model was trained with")
    return (target, target) if inner[0] is inner[1] else (source, target)


def _read(folder: Path, family: str) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The tokenizers of target and source."""
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            one = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise RunError(f"is not a tokenizer.json: {error}", where=str(path)) from None
        return one, one
    if (folder / "source.spm").is_file():
        ids = {str(piece): int(i) for piece, i in read_json(folder / "vocab.json").items()}
        source, target = (read_sentencepiece(folder / f"{side}.spm", ids) for side in ("source", "target"))
        return target, source
    if (folder / "spiece.model").is_file():
        one = read_sentencepiece(folder / "spiece.model", first=_PEGASUS if family == "pegasus" else ())
        if family == "t5":
            one.add_tokens([f"<extra_id_{i}>" for i in reversed(range(100))])
        return one, one
    cure = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers writes one"
    raise RunError("has no tokenizer.json", where=str(folder), cure=cure)


def _with_special(
    inner: tokenizers.Tokenizer, settings: Mapping[str, Any], ids: Mapping[str, Any], vocab_size: int, where: str
) -> Tokenizer:
    """The tokenizer with its special tokens: those that the files name, or else those with the usual names."""

    def find(*keys: str) -> int | None:
        for key in keys:
            value = settings.get(key) if ids.get(f"{key}_id") is None else ids[f"{key}_id"]
            value = value[0] if isinstance(value, list) else value
            value = value.get("content") if isinstance(value, Mapping) else value
            i = inner.token_to_id(value) if isinstance(value, str) else value
            if i is not None and 0 <= i < vocab_size:
                return int(i)
        return None

    translates = bool(ids.get("is_encoder_decoder"))
    end = find("eos_token", "sep_token")
    start = find("decoder_start_token", "pad_token") if translates else find("bos_token", "cls_token")
    named = {"pad": find("pad_token"), "unknown": find("unk_token"), "start": start, "end": end}
    try:
        usual = Tokenizer(inner)
    except UsageError as error:
        if end is None:
            raise RunError(error.problem, where=where, cure="name eos_token_id in its config.json") from None
        usual = None
    special = {k: v if v is not None else getattr(usual, k) if usual is not None else end for k, v in named.items()}
    opens = translates or inner.encode("a", add_special_tokens=True).ids[:1] == [special["start"]]
    return Tokenizer(inner, Special(vocab_size, **special, opens=opens))  # type: ignore[arg-type]
