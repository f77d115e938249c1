"""Runs in the formats of other programs."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from seqloom.adaptation.config import LoRA
from seqloom.config import tree_of
from seqloom.errors import UsageError, command
from seqloom.files import WEIGHTS, Json, output_in, write_json, writing
from seqloom.interop.gguf.directory import LLAMA, Precision, directory, write_gguf
from seqloom.interop.huggingface import read_checkpoint, write_checkpoint
from seqloom.interop.own_tokenizer import write_tokenizers
from seqloom.interop.peft.write import Adapted, write_adapter
from seqloom.interop.preprocessor import NAME, written_pixels
from seqloom.interop.published_tokenizer import KEPT
from seqloom.interop.side_files import generation_of
from seqloom.models.assemblies import Model
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Run
from seqloom.tasks.assets import load_facts
from seqloom.tasks.building import adaptation, load_model
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.task import RunConfig, config_of
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import saved_weights, shapes_in
from seqloom.training.log import Reporter
from seqloom.workflows.adapter import SUFFIX, export_adapter

Target = Literal["hf", "gguf", "ctranslate2", "onnx", "peft", "adapter"]
_FILES = ("gguf", "onnx", "adapter")
_OF_OTHERS = {"hf": ("model.bin",), "ctranslate2": ("model.safetensors", "model.safetensors.index.json")}
"""What a directory of another format has."""
_PRECISIONS: dict[str, tuple[Precision, ...]] = {"hf": ("fp32", "bf16"), "gguf": get_args(Precision)}


def export_run(
    path: str | Run, to: Target, out: str, reporter: Reporter, precision: Precision = "fp32", base: str = ""
) -> None:
    """Writes a run to `out`: a Hugging Face or CTranslate2 directory, a GGUF or ONNX file, or what it learned alone.

    Args:
        path: the run.
        to: the format.
        out: the directory or file.
        reporter: prints progress and warnings.
        precision: the type of the weights.
        base: for peft, the published checkpoint that the run is an adapter of; by default the one that the run it
            started from was imported from. For adapter, the run it started from, if it is elsewhere now.

    Raises:
        UsageError: the format cannot express the model.
    """
    run, folder = Run.open(path), Path(out)
    if folder.is_dir() if to in _FILES else folder.is_file():
        raise UsageError(f"is a {'directory' if to in _FILES else 'file'}", where=out, cure="choose another path")
    if precision not in _PRECISIONS.get(to, ("fp32",)):
        formats = " and ".join(f"--to {name}" for name, listed in _PRECISIONS.items() if precision in listed)
        raise UsageError(f"--precision {precision} is for {formats} only", cure="leave it out")
    if other := next((name for name in _OF_OTHERS.get(to, ()) if (folder / name).is_file()), None):
        problem = f"holds {other}, an export of another format"
        raise UsageError(problem, where=out, cure="choose another directory, or remove this one")
    if base and to not in ("peft", "adapter"):
        raise UsageError("--base is for --to peft and --to adapter only", cure="leave it out")
    if to == "adapter" and folder.suffix != SUFFIX:
        raise UsageError(f"the name of the file must end in {SUFFIX}", where=out, cure=f"--to adapter {out}{SUFFIX}")
    place = (folder.parent, folder.name) if to in _FILES else (folder,)
    with output_in(*place):
        if to == "peft":
            _to_peft(run, folder, reporter, base)
        elif to == "adapter":
            export_adapter(run, folder, reporter, base)
        else:
            _export(run, to, folder, reporter, precision)
    reporter.say(f"{out} written")


def _export(run: Run, to: Target, folder: Path, reporter: Reporter, precision: Precision) -> None:
    match to:
        case "hf":
            _to_hugging_face(run, folder, torch.bfloat16 if precision == "bf16" else torch.float32, reporter)
        case "gguf":
            tree: Any = getattr(config_of(run, RunConfig), "model", None)
            if not (isinstance(tree, DecoderOnlyConfig) and isinstance(tree.decoder, TransformerConfig)):
                problem = "is no Transformer that continues texts, as a GGUF file holds"
                raise UsageError(problem, where=str(run.path), cure=LLAMA)
            with writing(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(prefix=".seqloom-", dir=folder.parent) as made:
                    _to_hugging_face(run, Path(made), torch.float32, reporter, read=False)
                    warnings = write_gguf(Path(made), folder, precision)
            for warning in warnings:
                reporter.warn(warning)
        case "ctranslate2":
            from seqloom.interop.ctranslate import write_ctranslate2

            exported = load_exported(run, reporter)
            if exported.pair is None:
                raise UsageError("a vision model cannot be written for CTranslate2", where=str(run.path))
            write_ctranslate2(folder, exported.model, exported.pair)
            if stops := exported.pair[1].stops:
                tokens = [exported.pair[1].inner.id_to_token(i) for i in stops]
                reporter.warn(f"CTranslate2 stops at one token: add {tokens} to its argument end_token")
        case "onnx":
            from seqloom.interop.onnx import write_onnx

            exported = load_exported(run, reporter)
            write_onnx(folder, exported.model, exported.heads)


def _to_peft(run: Run, folder: Path, reporter: Reporter, base: str) -> None:
    config = config_of(run, RunConfig)
    if not isinstance(lora := adaptation(config), LoRA):
        cure = "export the whole model: --to hf"
        raise UsageError("was not adapted with adapt.kind = 'lora'", where=str(run.path), cure=cure)
    if not base and (start := Run(config.begins_with)).begun:
        base = str(start.info().get("imported", {}).get("from", ""))
    if not base or Path(base).is_file():
        cure = f"{command('export', config.begins_with, 'DIRECTORY', '--to', 'hf')}, then --base DIRECTORY"
        raise UsageError("the run it started from is in no Hugging Face directory", where=str(run.path), cure=cure)
    exported, best = load_exported(run, reporter), run.best(reporter.warn).path
    learned, root = shapes_in(best / WEIGHTS), lora.scaling == "root-rank"
    settings = {"r": lora.rank, "lora_alpha": lora.alpha, "use_rslora": root, "lora_dropout": lora.dropout}
    with directory(base) as found, saved_weights(best) as weights:
        frozen = {name: weight.read for name, weight in weights.items() if name not in learned}
        read = {name: weights[name].read() for name in learned}
        adapted = Adapted(exported.model, exported.heads, settings, frozen, read)
        write_adapter(folder, adapted, read_checkpoint(found), str(found.resolve()) if Path(base).exists() else base)


@dataclass(frozen=True)
class Exported:
    """A run as other programs see it.

    Args:
        model: in float32; a head that predicts numbers has their scale.
        heads: the number of outputs of each head.
        pair: the tokenizers of source and target.
        facts: the facts about the labels, if there are any.
    """

    model: Model
    heads: dict[str, int]
    pair: tuple[Tokenizer, Tokenizer] | None
    facts: Json


def load_exported(run: Run, reporter: Reporter) -> Exported:
    """The model of a run that is exported, or compared with its export."""
    model, heads, pair = load_model(run, reporter)
    facts = load_facts(run)
    if "mean" in facts:  # training learned (number - mean) / deviation
        linear: Any = model.heads["label"].linear  # type: ignore[union-attr, index]
        with torch.no_grad():
            linear.weight.mul_(facts["deviation"])
            linear.bias.mul_(facts["deviation"]).add_(facts["mean"])
        facts = facts | {"mean": 0.0, "deviation": 1.0}
    return Exported(model, heads, pair, facts)


def _to_hugging_face(run: Run, folder: Path, dtype: torch.dtype, reporter: Reporter, *, read: bool = True) -> None:
    """Writes the directory; `read`: whether transformers will read it, which replaces some tokenizers."""
    exported = load_exported(run, reporter)
    model, heads, pair = exported.model, exported.heads, exported.pair
    special = _special(pair[1], model.config.kind) if pair is not None else {}
    more: Json = {key: value for key, value in special.items() if key != "bad_words_ids"} | labels_of(exported.facts)
    if isinstance(model, LanguageModel) and model.config.decoder.limit is None:
        more["max_position_embeddings"] = config_of(run, LanguageModelConfig).batches.length
    imported = run.info().get("imported", {})
    more |= {key: imported[key] for key in imported if key == "max_position_embeddings"}
    first = str(imported.get("family", ""))
    target = pair[1].inner if pair is not None and read else None
    size = pair[1].vocab_size if pair is not None else 0
    write_checkpoint(folder, model, heads, tokenizer=target, vocab_size=size, dtype=dtype, more=more, first=first)
    if pair is not None:
        config = config_of(run, RunConfig)
        write_tokenizers(folder, pair, model, getattr(getattr(config, "batches", None), "length", None))
        if (decoding := getattr(config, "decoding", None)) is not None:
            fields, missing = generation_of(tree_of(decoding), model.config.kind)
            special |= fields
            if missing:
                reporter.warn(f"transformers has nothing like decoding.{' and '.join(missing)}")
        write_json(folder / "generation_config.json", special)
    elif "scale" in exported.facts:
        write_json(folder / NAME, written_pixels(exported.facts))
        if exported.facts["sizes"]["channels"] == 1:
            reporter.warn("transformers reads images in colours, this model in grey: convert them there")
    for kept in KEPT:
        if path := run.asset(f"published/{kept}"):
            (folder / kept).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / kept)


def labels_of(facts: Json) -> Json:
    """What a config.json states about labels and numbers."""
    more: Json = {}
    if names := facts.get("labels"):
        more |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    activation = "none" if "mean" in facts else facts.get("activation")
    kinds = {"none": "regression", "sigmoid": "multi_label_classification"}
    return more | ({"problem_type": kinds[activation]} if activation in kinds else {})


def _special(tokenizer: Tokenizer, kind: str) -> Json:
    ids: Json = {"pad_token_id": tokenizer.pad, "eos_token_id": tokenizer.end}
    if tokenizer.stops:
        ids["eos_token_id"] = [tokenizer.end, *tokenizer.stops]
    if kind == "encoder-decoder":
        never = {"bad_words_ids": [[i] for i in tokenizer.suppressed]} if tokenizer.suppressed else {}
        return ids | {"decoder_start_token_id": tokenizer.start, "forced_eos_token_id": tokenizer.end, **never}
    if tokenizer.special is None and kind == "decoder-only":
        ids["eos_token_id"] = [tokenizer.stop, *tokenizer.stops] if tokenizer.stops else tokenizer.stop
    return ids | {"bos_token_id": tokenizer.start}
