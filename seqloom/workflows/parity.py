"""Whether a model computes the same here and in another program: logits, and greedy output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqloom.decoding.config import Greedy
from seqloom.decoding.encoder_decoder import decode_rows
from seqloom.decoding.engine import Engine, Request
from seqloom.errors import MissingExtra
from seqloom.interop.huggingface import find, read_json
from seqloom.models.assemblies import Model, limit_of
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder import EncoderOnly
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs, Modality, PatchEmbedder
from seqloom.run import Run
from seqloom.tasks.building import load_model
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter

Found = dict[str, object]
_ROWS, _LENGTH, NEW = 2, 12, 20


def compare_with_transformers(run: Run, source: str, reporter: Reporter) -> Found:
    """The largest difference of the logits of random words, and whether greedy output is the same.

    Raises MissingExtra where transformers is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise MissingExtra("--verify", "verify") from None
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = find(source)
    architecture = (read_json(folder / "config.json").get("architectures") or ["AutoModel"])[0]
    theirs = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32).eval()
    model, heads, pair = load_model(run, reporter)
    with torch.inference_mode():
        differences = _differences(model, heads, theirs, example(model, pair))
        found: Found = {f"max difference, {name}": float(d) for name, d in differences.items()}
        if pair is not None and not isinstance(model, EncoderOnly):
            found["greedy output"] = "the same" if _greedy_agrees(model, pair, theirs) else "DIFFERENT"
    return found


def compare_export(run: str, to: str, out: str, reporter: Reporter) -> Found:
    """The same for what a run was exported to."""
    opened = Run.open(run)
    if to == "hf":
        return compare_with_transformers(opened, out, reporter)
    model, heads, pair = load_model(opened, reporter)
    if to == "onnx":
        assert isinstance(model, EncoderOnly)
        from seqloom.interop.onnx import run_onnx

        read = example(model, pair)
        with torch.inference_mode():
            own = encoder_outputs(model, heads, read)
        theirs = run_onnx(Path(out), read)
        return {f"max difference, {name}": float((own[name] - theirs[name]).abs().max()) for name in own}
    from seqloom.interop.ctranslate import greedy_ctranslate2

    assert pair is not None
    rows = example(model, pair).tolist()
    limit = limit_of(model.config) if isinstance(model, LanguageModel) else None
    most = min(NEW, (limit or 1 << 30) - len(rows[0]))
    same = greedy(model, pair, rows) == greedy_ctranslate2(Path(out), model, pair, rows, most)
    return {"greedy output": "the same" if same else "DIFFERENT"}


def example(model: Model, pair: tuple[Tokenizer, Tokenizer] | None) -> Tensor:
    """Random words without padding, or pixels; the same ones each time."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, EncoderOnly) and isinstance(model.embedder, PatchEmbedder):
        own = model.embedder.config
        return torch.randn(_ROWS, own.channels, own.size, own.size, generator=generator)
    assert pair is not None
    special = {pair[1].pad, pair[1].start, pair[1].end, pair[1].unknown}
    usual = torch.tensor([i for i in range(pair[1].vocab_size) if i not in special])
    limit = limit_of(model.config) or _LENGTH
    return usual[torch.randint(len(usual), (_ROWS, min(_LENGTH, limit)), generator=generator)]


def encoder_outputs(model: EncoderOnly, heads: Mapping[str, int], read: Tensor) -> dict[str, Tensor]:
    """The states and the scores of each head."""
    memory = model(Inputs({model.embedder.modality: Modality(read)}))
    return {"states": memory.states, **{name: model.score(name, memory) for name in heads}}


def _differences(model: Model, heads: Mapping[str, int], theirs: Any, read: Tensor) -> dict[str, Tensor]:
    match model:
        case LanguageModel():
            return {"logits": (model.head(model(Inputs.text(read))[0]) - theirs(read).logits).abs().max()}
        case EncoderDecoder():
            onto = read.flip(0)
            own = model.head(model(Inputs.text(read), onto))
            return {"logits": (own - theirs(input_ids=read, decoder_input_ids=onto).logits).abs().max()}
    own = encoder_outputs(model, heads, read)
    said = {"states": theirs.base_model(read).last_hidden_state}
    out = theirs(read)
    names = {"next": ("seq_relationship_logits", "logits"), "masked": ("prediction_logits", "logits")}
    for name in heads:
        if name == "span" and "start_logits" in out:
            said[name] = torch.stack((out.start_logits, out.end_logits), -1)
        elif name != "span" and (key := next((k for k in names.get(name, ("logits",)) if k in out), None)):
            said[name] = out[key]
    return {n: (own[n] - it).abs().max() for n, it in said.items() if own[n].shape == it.shape}


def greedy(model: Model, pair: tuple[Any, Any], rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The most probable words one by one after each row, or as its translation, without the end."""
    config = Greedy(max_length=NEW)
    tokenizer = pair[1]
    if isinstance(model, EncoderDecoder):
        ends = {"start": tokenizer.start, "end": tokenizer.end, "padding": tokenizer.pad}
        found = decode_rows(model, [np.asarray([*row, tokenizer.end]) for row in rows], config, **ends)
        return [list(own[0].ids) for own in found]
    assert isinstance(model, LanguageModel)
    engine = Engine(model, None, tokenizer.pad)
    results = []
    for row in rows:
        most = min(NEW, (limit_of(model.config) or 1 << 30) - len(row))
        found = engine.generate([row], Request(most, tokenizer.stop), config)
        results.append(list(found[0][0].ids))
    return results


def _greedy_agrees(model: Model, pair: tuple[Any, Any], theirs: Any) -> bool:
    tokenizer, rows = pair[1], example(model, pair).tolist()
    options: dict[str, Any] = {
        "do_sample": False,
        "use_cache": False,
        "num_beams": 1,
        "eos_token_id": tokenizer.end if isinstance(model, EncoderDecoder) else tokenizer.stop,
        "pad_token_id": tokenizer.pad,
    }
    if isinstance(model, EncoderDecoder) and tokenizer.start == tokenizer.pad:
        options["bad_words_ids"] = [[tokenizer.pad]]
    for row, own in zip(rows, greedy(model, pair, rows), strict=True):
        given = torch.tensor([[*row, tokenizer.end] if isinstance(model, EncoderDecoder) else row])
        most = len(own) + 1 if isinstance(model, EncoderDecoder) else len(own)
        if most == 0:
            continue
        said = theirs.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=most, forced_eos_token_id=None, **options
        )[0].tolist()
        said = said[1:] if isinstance(model, EncoderDecoder) else said[len(row) :]
        if said[: len(own)] != own:
            return False
    return True
