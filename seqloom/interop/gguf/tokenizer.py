"""The tokenizer of a GGUF file, as tokenizer.json and tokenizer_config.json, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from seqloom.errors import ConfigError, RunError, UsageError, nearest
from seqloom.files import Json
from seqloom.interop.side_files import ids_of
from seqloom.interop.weights import read_json
from seqloom.text.tokenizer import LINE

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _splitting(words: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(words), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_PRE = {
    "gpt-2": _BYTES,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTES]),
    "llama-bpe": _splitting(_WORDS % "{1,3}"),
    "qwen2": _splitting(_WORDS % ""),
}
"""How a text is split before it is encoded, by llama.cpp's names."""
_SPACE = {"type": "Prepend", "prepend": " "}
_NAMED = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_ENDS = ("eos", "eot", "eom")


def read_tokenizer(metadata: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, Json, list[int]]:
    """The tokenizer, the fields of its tokenizer_config.json, and the ids that end a text.

    Raises RunError or ConfigError for one that is missing, malformed or not supported.
    """
    prefix = "tokenizer.ggml."
    fields = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    kind = str(fields.get("model"))
    needed = {"gpt2": ("tokens", "merges"), "llama": ("tokens", "scores")}
    if kind not in needed:
        raise ConfigError(f"its tokenizer is of the kind {kind!r}", cure=f"supported: {', '.join(needed)}")
    if missing := [key for key in needed[kind] if not isinstance(fields.get(key), list)]:
        raise RunError(f"has no {prefix}{missing[0]}")
    tokens, kinds = fields["tokens"], fields.get("token_type") or [_NORMAL] * len(fields["tokens"])
    matching = len(kinds) == len(tokens)
    used = max((i + 1 for i, number in enumerate(kinds) if number != _UNUSED), default=0)
    tokens, kinds = tokens[:used], kinds[:used]  # those after it fill up the vocabulary of the model
    ids = {token: i for i, token in enumerate(tokens)}
    if len(ids) < len(tokens) or not matching:
        raise RunError("has a token twice, or not one type for each token: it is damaged")
    inner = (_byte_level if kind == "gpt2" else _sentencepiece)(fields, ids)
    for token, number in zip(tokens, kinds, strict=True):
        if number in (_CONTROL, _USER_DEFINED):
            added = tokenizers.AddedToken(token, special=number == _CONTROL, normalized=False)
            (inner.add_special_tokens if number == _CONTROL else inner.add_tokens)([added])
    named = {name: fields.get(f"{theirs}_token_id") for name, theirs in _NAMED.items()}
    settings: Json = {f"{name}_token": tokens[i] for name, i in named.items() if i is not None}
    around = [fields.get("add_bos_token", kind == "llama" or fields.get("pre") == "llama-bpe")]
    around += [fields.get("add_eos_token", False)]
    names = [settings[f"{name}_token"] if add else "" for name, add in zip(("bos", "eos"), around, strict=True)]
    if any(names):
        special = [(name, ids[name]) for name in dict.fromkeys(names) if name]
        form = [name for name in (names[0], "$A", names[1]) if name]
        inner.post_processor = processors.TemplateProcessing(single=form, special_tokens=special)
    if template := metadata.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    ends = [fields[f"{name}_token_id"] for name in _ENDS if f"{name}_token_id" in fields]
    return inner, {**settings, "tokenizer_class": "PreTrainedTokenizerFast"}, list(dict.fromkeys(ends))


def _byte_level(fields: Json, ids: Mapping[str, int]) -> tokenizers.Tokenizer:
    if (pre := str(fields.get("pre"))) not in _PRE:
        raise ConfigError(f"tokenizer.ggml.pre = {pre!r} is not supported", cure=nearest(pre, _PRE))
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    inner = tokenizers.Tokenizer(models.BPE(dict(ids), merges, ignore_merges=pre == "llama-bpe"))
    inner.pre_tokenizer, inner.decoder = _PRE[pre], decoders.ByteLevel()
    if pre == "qwen2":
        inner.normalizer = normalizers.NFC()
    if fields.get("add_space_prefix"):  # which llama.cpp has for SentencePiece only
        inner.normalizer = normalizers.Prepend(" ")
        lines = [decoders.Replace(f"{LINE} ", LINE)] * (LINE in ids)  # each has its own space
        inner.decoder = decoders.Sequence([inner.decoder, decoders.Strip(" ", 1, 0), *lines])
    return inner


def _sentencepiece(fields: Json, ids: Mapping[str, int]) -> tokenizers.Tokenizer:
    """SentencePiece BPE: of all neighbours that are a token together, those with the highest score are merged first."""
    scores: Sequence[float] = fields["scores"]
    pairs = [(t[:i], t[i:]) for t in ids for i in range(1, len(t)) if t[:i] in ids and t[i:] in ids]
    pairs.sort(key=lambda pair: (-scores[ids[pair[0] + pair[1]]], ids[pair[0]], ids[pair[1]]))
    unknown = next(token for token, i in ids.items() if i == fields.get("unknown_token_id", 0))
    model = models.BPE(dict(ids), pairs, unk_token=unknown, fuse_unk=True, byte_fallback="<0x00>" in ids)
    inner = tokenizers.Tokenizer(model)
    front = [normalizers.Prepend("▁")] if fields.get("add_space_prefix", True) else []
    inner.normalizer = normalizers.Sequence([*front, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if front else [])])
    return inner


def _plain(steps: Any) -> list[Json]:
    """The steps of a tokenizer.json, without what changes no token."""
    parts = [steps] if steps else []
    if steps and steps["type"] == "Sequence":
        parts = [part for step in steps.get("pretokenizers", steps.get("normalizers")) for part in _plain(step)]
    return [{key: value for key, value in part.items() if key != "trim_offsets"} for part in parts]


def pre_of(tree: Json) -> str:
    """llama.cpp's name of how a tokenizer.json with byte-level BPE splits a text; "" where it has none."""
    steps = _plain(tree["pre_tokenizer"])
    name = next((name for name, pre in _PRE.items() if _plain(json.loads(pre.__getstate__())) == steps), "")
    normalizers = [_SPACE], [{"type": "NFC"}] if name == "qwen2" else []
    return name if tree["model"]["type"] == "BPE" and _plain(tree["normalizer"]) in normalizers else ""


def write_tokenizer(writer: Any, folder: Path, vocab_size: int) -> list[str]:
    """Writes the tokenizer of a directory with a GGUFWriter; warns of what llama.cpp does otherwise.

    Raises UsageError for a tokenizer that llama.cpp cannot express.
    """
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    inner, tree = tokenizers.Tokenizer.from_str(text), json.loads(text)
    pre, spaced = pre_of(tree), _plain(tree["normalizer"]) == [_SPACE]
    if not pre:
        named = " and ".join(step["type"] for step in _plain(tree["normalizer"])) or "no change"
        problem = f"GGUF cannot express its tokenizer ({tree['model']['type']}, with {named} of the text before it)"
        raise UsageError(problem, cure=f"byte-level BPE that splits texts as these do: {', '.join(_PRE)}")
    names = {i: token for token, i in inner.get_vocab().items()}
    added = inner.get_added_tokens_decoder()
    tokens = [names.get(i, f"[PAD{i}]") for i in range(vocab_size)]
    kinds = [_NORMAL if i in names else _UNUSED for i in range(vocab_size)]
    for i, token in ((i, token) for i, token in added.items() if i < vocab_size):
        kinds[i] = _CONTROL if token.special else _USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tree["model"]["merges"]]
    settings, generation = read_json(folder / "tokenizer_config.json"), read_json(folder / "generation_config.json")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    special: dict[str, int | None] = {
        theirs: inner.token_to_id(str(settings.get(f"{name}_token"))) for name, theirs in _NAMED.items()
    }
    special |= dict(zip(_ENDS, ids_of(generation.get("eos_token_id")), strict=False))
    for name, number in special.items():
        if number is not None:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    around = inner.encode("a").ids
    writer.add_add_space_prefix(spaced)
    writer.add_add_bos_token(around[0] == special["bos"])
    writer.add_add_eos_token(around[-1] == special["eos"])
    if isinstance(template := settings.get("chat_template"), str):
        writer.add_chat_template(template)
    return ["llama.cpp puts no space before a line: begin each line of a prompt with one"] * spaced
