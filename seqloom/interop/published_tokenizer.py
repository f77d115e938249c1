"""The tokenizers of a published checkpoint, with the special tokens that its other files name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import processors

from seqloom.errors import RunError, UsageError
from seqloom.interop.fields import Json
from seqloom.interop.sentencepiece import read_sentencepiece
from seqloom.interop.side_files import NAMED, SideFiles, ids_of, read_side_files, suppressed
from seqloom.interop.weights import read_json, some
from seqloom.text.tokenizer import Special, Template, Tokenizer

KEPT = (
    *("source.spm", "target.spm", "vocab.json", "merges.txt", "vocab.txt", "spiece.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "generation_config.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
)
"""Small files that an imported run keeps, and that its export contains again."""

_DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""The families that continue a text."""

_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))
"""The tokens of Pegasus before the pieces of its spiece.model, whose ids are shifted by 103 (Zhang et al. 2020)."""


def read_tokenizers(folder: Path, config: Json, side: SideFiles | None = None) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers of source and target, the same object if they share one; None for a vision model.

    Raises RunError if there is none, or if it has more tokens than the model; what has no effect is added to the
    warnings of the side files.
    """
    vocab_size = int(config.get("vocab_size") or 0)
    if not vocab_size:
        return None
    side = side or read_side_files(folder, config, config)
    inner = _read(folder, str(config.get("model_type")))
    ids = {**config, **side.generation}
    for one in {id(one): one for one in inner}.values():
        _add_tokens(one, side, str(folder / "tokenizer_config.json"))
    target, source = (_with_special(one, side, ids, vocab_size, str(folder)) for one in inner)
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
        source, target = (_ending(read_sentencepiece(folder / f"{side}.spm", ids)) for side in ("source", "target"))
        return target, source
    if (folder / "spiece.model").is_file():
        one = _ending(read_sentencepiece(folder / "spiece.model", first=_PEGASUS if family == "pegasus" else ()))
        if family == "t5":
            one.add_tokens([f"<extra_id_{i}>" for i in reversed(range(100))])
        return one, one
    cure = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers writes one"
    raise RunError("has no tokenizer.json", where=str(folder), cure=cure)


def _ending(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer of a SentencePiece file with </s> after a text, as all these families have it."""
    if (end := inner.token_to_id("</s>")) is not None:
        tokens = [("</s>", end)]
        inner.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=tokens
        )
    return inner


def _add_tokens(inner: tokenizers.Tokenizer, side: SideFiles, where: str) -> None:
    """Adds the tokens that only tokenizer_config.json has, and makes those that it names special, as transformers."""
    listed = side.tokens.get("added_tokens_decoder") or {}
    for number, token in sorted(listed.items(), key=lambda pair: int(pair[0])):
        name = str(token["content"]) if isinstance(token, Mapping) else str(token)
        if inner.token_to_id(name) is None:
            flags = {k: bool(token.get(k)) for k in ("lstrip", "rstrip", "normalized", "single_word")}
            special = bool(token.get("special"))
            added = tokenizers.AddedToken(name, special=special, **flags)
            (inner.add_special_tokens if special else inner.add_tokens)([added])
        if inner.token_to_id(name) != int(number):
            problem = f"{name} is the token {number}, but {inner.token_to_id(name)} in its tokenizer.json"
            raise RunError(problem, where=where, cure="put the files there that belong together")
    named = [side.tokens.get(key) for key in NAMED]
    names = [str(token["content"]) if isinstance(token, Mapping) else str(token) for token in named if token]
    has = {token.content for token in inner.get_added_tokens_decoder().values()}  # with their own flags
    inner.add_special_tokens([name for name in names if inner.token_to_id(name) is not None and name not in has])
    extra = [side.tokens.get(key) or [] for key in ("additional_special_tokens", "extra_special_tokens")]
    further = [t.get("content") if isinstance(t, Mapping) else t for tokens in extra for t in tokens]
    if missing := [name for name in further if isinstance(name, str) and inner.token_to_id(name) is None]:
        side.warnings.append(f"{where}: tokens that its tokenizer.json does not have: {some(missing)}")


def _with_special(
    inner: tokenizers.Tokenizer, side: SideFiles, ids: Mapping[str, Any], vocab_size: int, where: str
) -> Tokenizer:
    """The tokenizer with its special tokens: those that the files name, or else those with the usual names."""

    def find(*keys: str) -> int | None:
        for key in keys:
            value = side.tokens.get(key) if ids.get(f"{key}_id") is None else ids[f"{key}_id"]
            value = value.get("content") if isinstance(value, Mapping) else value
            found = (inner.token_to_id(value),) if isinstance(value, str) else ids_of(value)
            if found and found[0] is not None and 0 <= found[0] < vocab_size:
                return int(found[0])
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
    template = _template(inner, side.tokens)
    never, warnings = suppressed(side.generation)
    if template.after and ids.get("model_type") in _DECODERS:
        warnings = [*warnings, "the tokens that its tokenizer puts after a text are left out of prompts"]
    if never and not translates:
        never, warnings = (), [*warnings, f"bad_words_ids and suppress_tokens are not used: {some(map(str, never))}"]
    side.warnings.extend(f"{where}: {warning}" for warning in warnings if f"{where}: {warning}" not in side.warnings)
    return Tokenizer(
        inner,
        Special(
            vocab_size,
            **special,  # type: ignore[arg-type]
            opens=translates or bool(template.before),
            template=template,
            ends=tuple(i for i in ids_of(ids.get("eos_token_id")) if i != special["end"] and 0 <= i < vocab_size),
            suppressed=tuple(i for i in never if 0 <= i < vocab_size),
            lowercase=side.lowercase,
        ),
    )


def _template(inner: tokenizers.Tokenizer, settings: Json) -> Template:
    """The special tokens that the tokenizer puts around a text; `settings` are those of its tokenizer_config.json."""
    for text in ("a", "e", "1", ".", *(str(inner.id_to_token(i)) for i in range(8))):
        single, both = inner.encode(text), inner.encode(text, text)
        if 0 in single.sequence_ids and 1 in both.sequence_ids:
            break
    else:
        return Template((), (), ())
    first, last = _span(single, 0)
    end, second = _span(both, 0)[1], _span(both, 1)[0]
    plain = str(settings.get("tokenizer_class")) in ("PreTrainedTokenizerFast", "TokenizersBackend")
    inputs = settings.get("model_input_names") or ["token_type_ids"] * (not plain)  # the plain class gives no segments
    segments = both.type_ids[second] != both.type_ids[end - 1] and "token_type_ids" in inputs
    return Template(tuple(single.ids[:first]), tuple(both.ids[end:second]), tuple(single.ids[last:]), segments)


def _span(encoding: tokenizers.Encoding, text: int) -> tuple[int, int]:
    """Where the tokens of the first or the second text begin and end."""
    of = encoding.sequence_ids
    return of.index(text), len(of) - of[::-1].index(text)
