"""Whether a model computes the same here and in another program: logits and greedy output."""

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
from seqloom.interop.huggingface import find
from seqloom.interop.weights import read_json
from seqloom.models.assemblies import Model, limit_of
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder import EncoderOnly
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs, Modality, PatchEmbedder
from seqloom.run import Run
from seqloom.tasks.building import load_model
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter

Differences = dict[str, object]
_ROWS, _LENGTH, NEW = 2, 12, 20


def compare_with_transformers(run: Run, source: str, reporter: Reporter) -> Differences:
    """The largest difference of the logits on random tokens, and whether greedy output is the same.

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
        result: Differences = {f"max difference, {name}": float(d) for name, d in differences.items()}
        if pair is not None and not isinstance(model, EncoderOnly):
            result["greedy output"] = "the same" if _greedy_agrees(model, pair, theirs) else "DIFFERENT"
    return result


def compare_export(run: str | Run, to: str, out: str, reporter: Reporter) -> Differences:
    """The same for an exported run."""
    run = Run.open(run)
    if to == "hf":
        return compare_with_transformers(run, out, reporter)
    model, heads, pair = load_model(run, reporter)
    if to == "onnx":
        assert isinstance(model, EncoderOnly)
        from seqloom.interop.onnx import run_onnx

        inputs = example(model, pair)
        with torch.inference_mode():
            ours = encoder_outputs(model, heads, inputs)
        theirs = run_onnx(Path(out), inputs)
        return {f"max difference, {name}": float((ours[name] - theirs[name]).abs().max()) for name in ours}
    from seqloom.interop.ctranslate import greedy_ctranslate2

    assert pair is not None
    rows = example(model, pair).tolist()
    limit = limit_of(model.config) if isinstance(model, LanguageModel) else None
    most = min(NEW, (limit or 1 << 30) - len(rows[0]))
    same = greedy(model, pair, rows) == greedy_ctranslate2(Path(out), model, pair, rows, most)
    return {"greedy output": "the same" if same else "DIFFERENT"}


def example(model: Model, pair: tuple[Tokenizer, Tokenizer] | None) -> Tensor:
    """Random tokens without padding, or pixels; the same each time."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, EncoderOnly) and isinstance(model.embedder, PatchEmbedder):
        image = model.embedder.config
        return torch.randn(_ROWS, image.channels, image.size, image.size, generator=generator)
    assert pair is not None
    special = {pair[1].pad, pair[1].start, pair[1].end, pair[1].unknown}
    ids = torch.tensor([i for i in range(pair[1].vocab_size) if i not in special])
    limit = limit_of(model.config) or _LENGTH
    return ids[torch.randint(len(ids), (_ROWS, min(_LENGTH, limit)), generator=generator)]


def encoder_outputs(model: EncoderOnly, heads: Mapping[str, int], inputs: Tensor) -> dict[str, Tensor]:
    """The states and the output of each head."""
    memory = model(Inputs({model.embedder.modality: Modality(inputs)}))
    return {"states": memory.states, **{name: model.score(name, memory) for name in heads}}


def _differences(model: Model, heads: Mapping[str, int], theirs: Any, inputs: Tensor) -> dict[str, Tensor]:
    match model:
        case LanguageModel():
            return {"logits": (model.head(model(Inputs.text(inputs))[0]) - theirs(inputs).logits).abs().max()}
        case EncoderDecoder():
            targets = inputs.flip(0)
            logits = model.head(model(Inputs.text(inputs), targets))
            return {"logits": (logits - theirs(input_ids=inputs, decoder_input_ids=targets).logits).abs().max()}
    ours = encoder_outputs(model, heads, inputs)
    expected = {"states": theirs.base_model(inputs).last_hidden_state}
    out = theirs(inputs)
    names = {"next": ("seq_relationship_logits", "logits"), "masked": ("prediction_logits", "logits")}
    for name in heads:
        if name == "span" and "start_logits" in out:
            expected[name] = torch.stack((out.start_logits, out.end_logits), -1)
        elif name != "span" and (key := next((k for k in names.get(name, ("logits",)) if k in out), None)):
            expected[name] = out[key]
    return {n: (ours[n] - value).abs().max() for n, value in expected.items() if ours[n].shape == value.shape}


def greedy(model: Model, pair: tuple[Any, Any], rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The greedy continuation of each row, or its translation, without the end."""
    config = Greedy(max_length=NEW)
    tokenizer = pair[1]
    if isinstance(model, EncoderDecoder):
        ends = {"start": tokenizer.start, "end": tokenizer.end, "padding": tokenizer.pad}
        sources = [np.asarray([*row, tokenizer.end]) for row in rows]
        return [list(hypotheses[0].ids) for hypotheses in decode_rows(model, sources, config, **ends)]
    assert isinstance(model, LanguageModel)
    engine = Engine(model, None, tokenizer.pad)
    results = []
    for row in rows:
        most = min(NEW, (limit_of(model.config) or 1 << 30) - len(row))
        hypotheses = engine.generate([row], Request(most, tokenizer.stop), config)
        results.append(list(hypotheses[0][0].ids))
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
    for row, ours in zip(rows, greedy(model, pair, rows), strict=True):
        inputs = torch.tensor([[*row, tokenizer.end] if isinstance(model, EncoderDecoder) else row])
        most = len(ours) + isinstance(model, EncoderDecoder)
        if most == 0:
            continue
        ids = theirs.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=most, forced_eos_token_id=None, **options
        )[0].tolist()
        begin = 1 if isinstance(model, EncoderDecoder) else len(row)
        if ids[begin : begin + len(ours)] != ours:
            return False
    return True
