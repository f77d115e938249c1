"""Whether a model computes the same here and in another program: logits and greedy output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqloom.decoding.config import Greedy
from seqloom.decoding.ctranslate import CTranslate2
from seqloom.decoding.encoder_decoder import decode_rows
from seqloom.decoding.engine import Engine
from seqloom.decoding.job import Request
from seqloom.errors import RunError, optional
from seqloom.interop.gguf.file import GGUF
from seqloom.interop.huggingface import Published, read_checkpoint
from seqloom.interop.preprocessor import NAME
from seqloom.interop.weights import Weights
from seqloom.models.assemblies import Model, limit_of
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder import EncoderOnly
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs, Modality, PatchEmbedder
from seqloom.run import Run
from seqloom.tasks.assets import load_facts
from seqloom.tasks.counterpart import GREEDY, NEW
from seqloom.tasks.engine import names_and_ends
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter
from seqloom.workflows.export import labels_of, load_exported
from seqloom.workflows.import_ import checkpoint
from seqloom.workflows.text_parity import Differences, compare_texts

_ROWS, _LENGTH = 2, 12


def compare_with_transformers(
    run: Run, source: str, reporter: Reporter, *, rounded: bool = False, base: str = ""
) -> Differences:
    """How a run differs from a checkpoint in transformers: its outputs on random tokens, and its answers to texts.

    Args:
        run: the run.
        source: the directory or GGUF file of the checkpoint, or its name on the hub.
        reporter: prints warnings.
        rounded: whether the weights there are those of the run with fewer bits, with which it is then compared.
        base: the base of an adapter; see `checkpoint`.

    Raises MissingExtra where transformers is not installed, or peft for an adapter.
    """
    transformers = optional("transformers", "--verify", "verify")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with checkpoint(source, base) as (folder, adapter):
        published = read_checkpoint(folder, adapter)
        if adapter is None:
            theirs = _theirs(published, folder, transformers, {})
        else:
            count = next((n for name, n in published.form.heads.items() if name in ("label", "tags")), 2)
            head = {"ignore_mismatched_sizes": True, "num_labels": count, **labels_of(load_facts(run))}
            theirs = _theirs(published, folder, transformers, head)
            peft = optional("peft", "--verify of an adapter", "peft")
            theirs = peft.PeftModel.from_pretrained(theirs, adapter).merge_and_unload()
        return _compare(run, published, folder, theirs, reporter, rounded)


def _theirs(published: Published, folder: Path, transformers: Any, more: dict[str, Any]) -> Any:
    """The model of a directory in transformers, with more settings than those of its config.json."""
    architecture = str((published.config.get("architectures") or [""])[0])
    if published.family.kind != "encoder-only":
        architecture = published.family.architecture
    make = getattr(transformers, architecture, transformers.AutoModel)
    place: Path | None = folder
    if (folder / GGUF).exists():  # which transformers reads with accelerate only, and slowly
        weights = Weights(folder)
        more["state_dict"] = {name: weights(name) for name in weights.shapes()}
        place, more["config"] = None, transformers.AutoConfig.from_pretrained(folder)
    return make.from_pretrained(place, dtype=torch.float32, **more).eval()


def _compare(
    run: Run, published: Published, folder: Path, theirs: Any, reporter: Reporter, rounded: bool
) -> Differences:
    exported = load_exported(run, reporter)
    model, heads, pair = exported.model, exported.heads, exported.pair
    if rounded:
        _round(model, published, folder)
    with torch.inference_mode():
        differences = _differences(model, heads, theirs, example(model, pair))
        result: Differences = {"compared": ", ".join(differences)}
        if missing := [name for name in heads if name not in differences]:
            result["DIFFERENT heads"] = f"DIFFERENT: {', '.join(missing)} of the run is not in {type(theirs).__name__}"
        result |= {f"max difference, {name}": difference for name, difference in differences.items()}
        if pair is not None and not isinstance(model, EncoderOnly):
            result["greedy output"] = _greedy_compared(model, pair, theirs)
    images = "label" in heads and exported.facts.get("sizes", {}).get("channels") == 3
    if pair is not None or (images and (folder / NAME).is_file()):
        result |= compare_texts(run, exported, theirs, folder)
    return result


def _round(model: Model, published: Published, folder: Path) -> None:
    """Gives a model the weights of its export. Raises RunError for one that was not only rounded."""
    parameters, quantized = dict(model.named_parameters()), (folder / GGUF).exists()
    for name, tensor in published.weights():
        if (parameter := parameters.get(name)) is None:  # a bias that we do without
            continue
        step = float(parameter.detach().abs().max()) / 127 if quantized else 1e-30  # of Q8_0
        if not torch.allclose(tensor, parameter, rtol=2**-7, atol=step):
            raise RunError(f"{name} is not that of the run, rounded", where=str(folder), cure="export it again")
        parameter.data.copy_(tensor)


def compare_export(run: str | Run, to: str, out: str, reporter: Reporter, *, rounded: bool = False) -> Differences:
    """The same for an exported run; `rounded` if it was exported with fewer bits."""
    run = Run.open(run)
    if to in ("hf", "gguf", "peft"):
        return compare_with_transformers(run, out, reporter, rounded=rounded)
    exported = load_exported(run, reporter)
    model, heads, pair = exported.model, exported.heads, exported.pair
    if to == "onnx":
        assert isinstance(model, EncoderOnly)
        from seqloom.interop.onnx import run_onnx

        inputs = example(model, pair)
        with torch.inference_mode():
            ours = encoder_outputs(model, heads, inputs)
        theirs = run_onnx(Path(out), inputs)
        differences = {name: _apart(ours[name], theirs[name]) for name in ours}
        return {f"max difference, {name}": difference for name, difference in differences.items()}
    assert pair is not None
    rows, most = _greedy_rows(model, pair)
    names, ends = names_and_ends(model, pair)
    other = CTranslate2(Path(out), names, ends, threads=1, large=False)
    read = [[*row, pair[0].end] for row in rows] if isinstance(model, EncoderDecoder) else rows
    written = [list(found[0].ids) for found in other.decode(read, [most] * len(rows), Greedy()) if found]
    same = [ids for ids, _ in greedy(model, pair, rows)] == written
    return {"greedy output": "the same" if same else "DIFFERENT"}


def _apart(ours: Tensor, theirs: Tensor) -> float | str:
    """The largest difference; a message where the two have not the same shape."""
    if ours.shape != theirs.shape:
        return f"DIFFERENT: the shape {tuple(ours.shape)} here, {tuple(theirs.shape)} there"
    return float((ours - theirs).abs().max())


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


def _differences(model: Model, heads: Mapping[str, int], theirs: Any, inputs: Tensor) -> dict[str, float | str]:
    """The largest difference of each output that both have; a message for another shape."""
    match model:
        case LanguageModel():
            return {"logits": _apart(model.head(model(Inputs.text(inputs))[0]), theirs(inputs).logits)}
        case EncoderDecoder():
            targets = inputs.flip(0)
            logits = model.head(model(Inputs.text(inputs), targets))
            return {"logits": _apart(logits, theirs(input_ids=inputs, decoder_input_ids=targets).logits)}
    ours = encoder_outputs(model, heads, inputs)
    expected = {"states": theirs.base_model(inputs).last_hidden_state}
    out = theirs(inputs)
    # What has one of these has no "logits" of another head.
    names = {"next": ("seq_relationship_logits", "logits"), "masked": ("prediction_logits", "logits")}
    for name in heads:
        if name == "span" and "start_logits" in out:
            expected[name] = torch.stack((out.start_logits, out.end_logits), -1)
        elif name != "span" and (key := next((k for k in names.get(name, ("logits",)) if k in out), None)):
            expected[name] = out[key]
    return {name: _apart(ours[name], value) for name, value in expected.items()}


def greedy(model: Model, pair: tuple[Any, Any], rows: Sequence[Sequence[int]]) -> list[tuple[list[int], bool]]:
    """The greedy continuation of each row, or its translation, without the end; and whether it ended by itself."""
    config, tokenizer = Greedy(max_length=NEW), pair[1]
    if isinstance(model, EncoderDecoder):
        hypotheses = decode_rows(
            model,
            [np.asarray([*row, tokenizer.end]) for row in rows],
            config,
            start=tokenizer.start,
            end=tokenizer.end,
            ends=tokenizer.stops,
            suppressed=tokenizer.suppressed,
        )
        targets = [list(best[0].ids) for best in hypotheses]
        return [(row, len(row) < _room(model, 0)) for row in targets]
    assert isinstance(model, LanguageModel)
    engine = Engine(model, None, tokenizer.pad)
    results = []
    for row in rows:
        most = _room(model, len(row))
        hypotheses = engine.generate([row], Request(most, tokenizer.stop, ends=tokenizer.stops), config)
        ids = list(hypotheses[0][0].ids)
        results.append((ids, len(ids) < most))
    return results


def _greedy_rows(model: Model, pair: tuple[Tokenizer, Tokenizer]) -> tuple[list[list[int]], int]:
    """What is continued, short enough to leave room, and how many tokens there is room for."""
    limit = limit_of(model.config) or 1 << 30
    rows = example(model, pair)[:, : max(1, limit // 2)].tolist()
    return rows, _room(model, len(rows[0]))


def _room(model: Model, length: int) -> int:
    """How many tokens are written: after `length` of them, or by a decoder of its own."""
    if isinstance(model, EncoderDecoder):
        return min(NEW, (model.config.decoder.limit or 1 << 30) - 1)
    return min(NEW, (limit_of(model.config) or 1 << 30) - length)


def _greedy_compared(model: Model, pair: tuple[Tokenizer, Tokenizer], theirs: Any) -> str:
    """Whether both write the same, up to their ends and with them."""
    tokenizer, (rows, most) = pair[1], _greedy_rows(model, pair)
    translates = isinstance(model, EncoderDecoder)
    ends = {tokenizer.end if translates else tokenizer.stop, *tokenizer.stops}
    options: dict[str, Any] = {
        **{**GREEDY, "min_length": 0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
        **{"eos_token_id": sorted(ends), "pad_token_id": tokenizer.pad, "max_new_tokens": most},
    }
    if tokenizer.suppressed:
        options["bad_words_ids"] = [[i] for i in tokenizer.suppressed]
    for row, (ours, ended) in zip(rows, greedy(model, pair, rows), strict=True):
        inputs = torch.tensor([[*row, tokenizer.end] if translates else row])
        ids = theirs.generate(inputs, attention_mask=torch.ones_like(inputs), **options)[0].tolist()
        ids = ids[1 if translates else len(row) :]
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        if ids[:length] != ours or (length < len(ids)) != ended:
            here, there = [ours, *["end"] * ended], [ids[:length], *["end"] * (length < len(ids))]
            return f"DIFFERENT: {str(here)[:200]} here, {str(there)[:200]} there"
    return "the same"
