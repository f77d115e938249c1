"""The tokenizers that seqloom trained, as files with which other programs read and write the same texts."""

from __future__ import annotations

import json
import re
from operator import itemgetter
from pathlib import Path

import tokenizers
from tokenizers import decoders, processors

from seqloom.data.batches.masked import has_mask, mask_of
from seqloom.errors import UsageError
from seqloom.files import Json, write_json, write_text
from seqloom.models.assemblies import Model
from seqloom.models.encoder import EncoderOnly
from seqloom.text.chat import END, TEMPLATE
from seqloom.text.tokenizer import LINE, Tokenizer

_AROUND = {"decoder-only": ("START $A",), "encoder-decoder": ("$A END",)}


def _whole_texts(tokenizer: Tokenizer) -> Json:
    """A tokenizer.json in which the token that ends a line is the line break: then texts have several lines."""
    tree: Json = json.loads(tokenizer.inner.to_str())
    end = tokenizer.line_end
    if end is None or tokenizer.inner.token_to_id(LINE) is not None:
        return tree
    vocabulary = tree["model"]["vocab"]
    if isinstance(vocabulary, dict):
        tree["model"]["vocab"] = {LINE if i == end else token: i for token, i in vocabulary.items()}
    else:
        vocabulary[end][0] = LINE
    flags = dict.fromkeys(("special", "normalized", "lstrip", "rstrip", "single_word"), False)
    tree["added_tokens"] = [token for token in tree["added_tokens"] if token["id"] != end]
    tree["added_tokens"] = sorted([*tree["added_tokens"], {"id": end, "content": LINE, **flags}], key=itemgetter("id"))
    joined = tree["decoder"]["type"] == "WordPiece"
    if joined or "Prepend" in str(tree["normalizer"]):
        steps = [decoders.Fuse(), *([decoders.Replace(f" {LINE}", LINE)] * joined), decoders.Replace(f"{LINE} ", LINE)]
        after = json.loads(decoders.Sequence(steps).__getstate__())["decoders"]
        tree["decoder"] = {"type": "Sequence", "decoders": [tree["decoder"], *after]}
    return tree


def _with_special(tokenizer: Tokenizer, kind: str) -> str:
    """A tokenizer.json that puts those special tokens around a text that the model was trained with."""
    tree = _whole_texts(tokenizer) if kind == "decoder-only" else json.loads(tokenizer.inner.to_str())
    if tokenizer.special is None:  # as in Tokenizer.parsing
        for token in (token for token in tree["added_tokens"] if token["special"]):
            token |= {"lstrip": True, "rstrip": True}
    inner = tokenizers.Tokenizer.from_str(json.dumps(tree))
    special = tokenizer.special
    if special is None or (special.template is None and (special.opens or kind != "decoder-only")):
        names = {"START": str(inner.id_to_token(tokenizer.start)), "END": str(inner.id_to_token(tokenizer.end))}
        forms = [
            [re.sub("START|END", lambda match: names[match[0]], piece) for piece in form.split()]
            for form in _AROUND.get(kind, ("START $A END", "START $A END $B:1 END:1"))
        ]
        tokens = [(name, inner.token_to_id(name)) for name in names.values()]
        both = {"pair": forms[1]} if len(forms) > 1 else {}
        inner.post_processor = processors.TemplateProcessing(single=forms[0], special_tokens=tokens, **both)
    return str(inner.to_str(pretty=True)) + "\n"


def write_tokenizers(folder: Path, pair: tuple[Tokenizer, Tokenizer], model: Model, length: int | None) -> None:
    """Writes the tokenizers; `length` is the most tokens of a text that the model was trained on, where it has one."""
    source, target = pair
    if any(t.special is not None and t.special.kmers for t in pair):
        cure = "train it with tokenizer.kind = 'characters'"
        raise UsageError("a tokenizer of words of k letters has no published format", cure=cure)
    kind = model.config.kind
    write_text(folder / "tokenizer.json", _with_special(target, kind))
    if source is not target:
        write_text(folder / "tokenizer.source.json", _with_special(source, kind))
    end = target.end if kind != "decoder-only" else target.stop
    ids = {"pad": target.pad, "eos": end, "unk": target.unknown, "bos": target.start}
    settings: Json = {f"{name}_token": target.inner.id_to_token(i) for name, i in ids.items()}
    if has_mask(target):
        settings["mask_token"] = mask_of(target)[0]
    segments = isinstance(model, EncoderOnly) and model.config.segments > 1 and target.template.segments
    settings["model_input_names"] = ["input_ids", *["token_type_ids"] * segments, "attention_mask"]
    settings |= {"model_max_length": length} if length else {}
    if target.special is None and target.inner.token_to_id(END) is not None:
        settings["chat_template"] = TEMPLATE
    write_json(folder / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
