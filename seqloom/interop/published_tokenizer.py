"""The tokenizers of a published checkpoint, with what its other files state about their tokens."""

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
"""Small files that a run keeps, so that it can be published again with them."""

_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))
"""What its models have before the pieces of their spiece.model, whose ids are moved by 103 (Zhang et al. 2020)."""


def read_tokenizers(folder: Path, config: Json) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers of source and target, the same object where there is one; None for a model of images.

    Raises RunError where there is none, or it has more tokens than the model.
    """
    vocab_size = int(config.get("vocab_size") or 0)
    if not vocab_size:
        return None
    inner = _read(folder, str(config.get("model_type")))
    settings = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}
    ids = {**config, **read_json(folder / "generation_config.json")}
    target, source = (_made(one, settings, ids, vocab_size, str(folder)) for one in inner)
    if target.inner.get_vocab_size() > vocab_size and not (folder / "target.spm").is_file():
        problem = f"its tokenizer has {target.inner.get_vocab_size():,} tokens, its model {vocab_size:,}"
        raise RunError(problem, where=str(folder), cure="put the tokenizer there that the model was trained with")
    return (target, target) if inner[0] is inner[1] else (source, target)


def _read(folder: Path, family: str) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """Those of target and source."""
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            one = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise RunError(f"not a tokenizer.json: {error}", where=str(path)) from None
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


def _made(
    inner: tokenizers.Tokenizer, settings: Mapping[str, Any], ids: Mapping[str, Any], vocab_size: int, where: str
) -> Tokenizer:
    def find(*keys: str) -> int | None:
        for key in keys:
            value = settings.get(key) if ids.get(f"{key}_id") is None else ids[f"{key}_id"]
            value = value[0] if isinstance(value, list) else value
            value = value.get("content") if isinstance(value, Mapping) else value
            found = inner.token_to_id(value) if isinstance(value, str) else value
            if found is not None and 0 <= found < vocab_size:
                return int(found)
        return None

    writes_another = bool(ids.get("is_encoder_decoder"))
    end = find("eos_token", "sep_token")
    start = find("decoder_start_token", "pad_token") if writes_another else find("bos_token", "cls_token")
    known = {"pad": find("pad_token"), "unknown": find("unk_token"), "start": start, "end": end}
    try:
        usual = Tokenizer(inner)  # its special tokens have the usual names
    except UsageError as error:
        if end is None:
            raise RunError(error.problem, where=where, cure="name eos_token_id in its config.json") from None
        usual = None
    own = {k: v if v is not None else getattr(usual, k) if usual is not None else end for k, v in known.items()}
    begun = inner.encode("a", add_special_tokens=True).ids[:1]
    return Tokenizer(inner, Special(vocab_size, **own, opens=writes_another or begun == [own["start"]]))  # type: ignore[arg-type]
