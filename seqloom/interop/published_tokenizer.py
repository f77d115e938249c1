"""The tokenizers of a published checkpoint, with the special tokens that its other files name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers, processors

from seqloom.errors import RunError, UsageError
from seqloom.files import Json
from seqloom.interop.sentencepiece import read_sentencepiece
from seqloom.interop.side_files import IDS, NAMED, POOLING, SideFiles, ids_of, suppressed
from seqloom.interop.weights import interpreting, read_json, some
from seqloom.text.template import ChatTemplate
from seqloom.text.tokenizer import Special, Template, Tokenizer

KEPT = (
    *("source.spm", "target.spm", "vocab.json", "merges.txt", "vocab.txt", "spiece.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "generation_config.json"),
    "chat_template.jinja",
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", POOLING),
)
"""Small files that an imported run keeps, and that its export contains again."""
_TOGETHER = "put the files there that belong together"
_PEGASUS = ("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)))
"""The tokens of Pegasus before the pieces of its spiece.model, whose ids are shifted by 103 (Zhang et al. 2020)."""


def read_tokenizers(
    folder: Path, config: Json, side: SideFiles, kind: str
) -> tuple[tuple[Tokenizer, Tokenizer] | None, list[str]]:
    """The tokenizers of source and target for a model of a kind, and warnings of what has no effect.

    They are the same object if the two share one; None for a vision model. Raises RunError or ConfigError if there is
    none, if its files are malformed, or if it has more tokens than the model.
    """
    vocab_size = int(config.get("vocab_size") or 0)
    if not vocab_size:
        return None, []
    with interpreting(side.generation_path):
        never, ignored = suppressed(side.generation, kind)
        warnings = [f"{side.generation_path}: {warning}" for warning in ignored]
    ids, path = {**config, **side.generation}, folder / "tokenizer_config.json"
    result = []
    for inner in _read(folder, str(config.get("model_type"))):
        with interpreting(path):
            if missing := _add_tokens(inner, side.tokens):
                warnings.append(f"{path}: tokens that its tokenizer.json does not have: {some(missing)}")
            result.append(_with_special(inner, side, ids, vocab_size, kind, never))
    source, target = result[-1], result[0]
    if beyond := [name for name, i in target.inner.get_vocab().items() if i >= vocab_size]:
        warnings.append(f"{folder}: read as unknown, since the model has {vocab_size:,} tokens: {some(beyond)}")
    if outside := [f"{key} = {ids[key]}" for key in IDS.split() if max(ids_of(ids.get(key)), default=0) >= vocab_size]:
        warnings.append(f"{side.generation_path}: not used, since the model has {vocab_size:,} tokens: {some(outside)}")
    if target.inner.get_vocab_size() > vocab_size and not (folder / "target.spm").is_file():
        problem = f"its tokenizer has {target.inner.get_vocab_size():,} tokens, its model {vocab_size:,}"
        raise RunError(problem, where=str(folder), cure="replace it with the tokenizer that the model was trained with")
    if target.template.after and kind == "decoder-only":
        warnings.append(f"{folder}: the tokens that its tokenizer puts after a text are left out of prompts")
    return (source, target), [*dict.fromkeys(warnings)]


def read_template(find: Callable[[str], Path | None], tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of a published model, None if it has none; `find` returns the path of a file of `KEPT`."""
    paths = [path for name in ("special_tokens_map.json", "tokenizer_config.json") if (path := find(name))]
    settings: Json = {key: value for path in paths for key, value in read_json(path).items()}
    source = settings.get("chat_template")
    if own := find("chat_template.jinja"):
        with interpreting(own):
            source = own.read_text(encoding="utf-8")
    elif isinstance(source, list):  # several, by name
        source = {t.get("name"): t.get("template") for t in source if isinstance(t, Mapping)}.get("default")
    names = {key: _content(token) for key in NAMED if (token := settings.get(key))}
    return ChatTemplate(source, names, tokenizer, str(own or paths[-1])) if isinstance(source, str) else None


def _read(folder: Path, family: str) -> tuple[tokenizers.Tokenizer, ...]:
    """The tokenizer of target and source, or those of target and of source."""
    path = folder / "tokenizer.json"
    if path.is_file():
        with interpreting(path):
            inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            if len({*(vocabulary := inner.get_vocab()).values()}) < len(vocabulary):
                raise RunError("two of its tokens have the same number", cure=_TOGETHER)
            return (inner,)
    if (folder / "source.spm").is_file():
        path = folder / "vocab.json"
        with interpreting(path):
            ids = read_json(path)
            if not ids or sorted(ids.values()) != [*range(len(ids))]:
                cure = "put the vocab.json there that belongs to source.spm"
                raise RunError("does not number its tokens from 0", cure=cure)
        return tuple(_ending(read_sentencepiece(folder / f"{side}.spm", ids)) for side in ("target", "source"))
    if (folder / "spiece.model").is_file():
        inner = _ending(read_sentencepiece(folder / "spiece.model", first=_PEGASUS if family == "pegasus" else ()))
        if family == "t5":
            inner.add_tokens([f"<extra_id_{i}>" for i in reversed(range(100))])
        return (inner,)
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


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _add_tokens(inner: tokenizers.Tokenizer, settings: Json) -> list[str]:
    """Adds the tokens that only tokenizer_config.json has, and makes those that it names special, as transformers.

    Returns those that cannot be added. Raises RunError where it and tokenizer.json contradict each other.
    """
    listed = settings.get("added_tokens_decoder") or {}
    for number, token in sorted(listed.items(), key=lambda pair: int(pair[0])):
        name = _content(token)
        if inner.token_to_id(name) is None:
            flags = {k: bool(token.get(k)) for k in ("lstrip", "rstrip", "normalized", "single_word")}
            special = bool(token.get("special"))
            added = tokenizers.AddedToken(name, special=special, **flags)
            (inner.add_special_tokens if special else inner.add_tokens)([added])
        if inner.token_to_id(name) != int(number):
            problem = f"{name} is the token {number}, but {inner.token_to_id(name)} in its tokenizer.json"
            raise RunError(problem, cure=_TOGETHER)
    if isinstance(steps := inner.normalizer, normalizers.BertNormalizer) and not _is_plain(settings):
        accents = steps.lowercase if steps.strip_accents is None else steps.strip_accents
        names = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        for key, value in zip(names, (steps.lowercase, accents, steps.handle_chinese_chars), strict=True):
            if settings.get(key) not in (None, value):
                raise RunError(f"{key} = {settings[key]}, but {value} in its tokenizer.json", cure=_TOGETHER)
    named = [_content(token) for key in NAMED if (token := settings.get(key))]
    has = {token.content for token in inner.get_added_tokens_decoder().values()}  # with their own flags
    inner.add_special_tokens([name for name in named if inner.token_to_id(name) is not None and name not in has])
    extra = [settings.get(key) or [] for key in ("additional_special_tokens", "extra_special_tokens")]
    extra_tokens = [_content(t) for ts in extra for t in (ts.values() if isinstance(ts, Mapping) else ts)]
    return [name for name in extra_tokens if inner.token_to_id(name) is None]


def _with_special(
    inner: tokenizers.Tokenizer, side: SideFiles, ids: Json, vocab_size: int, kind: str, never: Sequence[int]
) -> Tokenizer:
    """The tokenizer with its special tokens: those that the files name, or else those with the usual names."""

    def find(*keys: str) -> int | None:
        for value in (value for key in keys for value in (ids.get(f"{key}_id"), side.tokens.get(key))):
            text = isinstance(value, (str, Mapping))
            token_ids = ids_of(inner.token_to_id(_content(value)) if text else value)
            if token_ids and 0 <= token_ids[0] < vocab_size:
                return token_ids[0]
        return None

    translates = kind == "encoder-decoder"
    end = find("eos_token", "sep_token")
    start = find("decoder_start_token", "pad_token") if translates else find("bos_token", "cls_token")
    named = {"pad": find("pad_token"), "unknown": find("unk_token"), "start": start, "end": end}
    try:
        usual = Tokenizer(inner)
    except UsageError as error:
        if end is None:
            raise RunError(error.problem, cure="name eos_token_id in its config.json") from None
        usual = None
    special: Any = {k: getattr(usual, k, end) if v is None else v for k, v in named.items()}
    ends = tuple(i for i in ids_of(ids.get("eos_token_id")) if i != special["end"] and 0 <= i < vocab_size)
    suppressed, template = tuple(i for i in never if 0 <= i < vocab_size), _template(inner, side.tokens)
    special |= {"opens": translates or bool(template.before), "template": template, "lowercase": side.lowercase}
    return Tokenizer(inner, Special(vocab_size, **special, ends=ends, suppressed=suppressed))


def _is_plain(settings: Json) -> bool:
    """Whether transformers reads tokenizer.json as it is, with a class that adds nothing of its own."""
    return str(settings.get("tokenizer_class")) in ("PreTrainedTokenizerFast", "TokenizersBackend")


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
    inputs = settings.get("model_input_names") or ["token_type_ids"] * (not _is_plain(settings))
    segments = both.type_ids[second] != both.type_ids[end - 1] and "token_type_ids" in inputs
    return Template(tuple(single.ids[:first]), tuple(both.ids[end:second]), tuple(single.ids[last:]), segments)


def _span(encoding: tokenizers.Encoding, text: int) -> tuple[int, int]:
    """Where the tokens of the first or the second text begin and end."""
    texts = encoding.sequence_ids
    return texts.index(text), len(texts) - texts[::-1].index(text)
