"""Checkpoints that would not be the same model here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published import Publish, publish, transformers, write_tokenizer
from safetensors.torch import load_file, save_file
from toys import Listener

from seqloom.config import build
from seqloom.errors import MissingExtra, RunError, SeqloomError, UsageError
from seqloom.interop.huggingface import express, find
from seqloom.interop.weights import interpreting
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.tasks.seq2seq.demo import demo_config
from seqloom.training.log import Reporter
from seqloom.workflows.import_ import import_run

__all__ = ["publish", "transformers"]
Change = Callable[[Path], None]


def fields(name: str, **more: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **more}))

    return change


config = partial(fields, "config.json")
settings = partial(fields, "tokenizer_config.json")
generation = partial(fields, "generation_config.json")


def older(folder: Path) -> None:
    config(num_beams="4")(folder)
    (folder / "generation_config.json").unlink()


def cased(folder: Path) -> None:
    settings(tokenizer_class="BertTokenizer", do_lower_case=True)(folder)
    fields("tokenizer.json", normalizer={**BERT_NORMALIZER, "lowercase": False})(folder)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        path = folder / "model.safetensors"
        weights = load_file(path)
        change(weights)
        save_file({name: t.contiguous() for name, t in weights.items()}, path)

    return changed


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content) and None


def index(weight_map: Any) -> Change:
    return text("model.safetensors.index.json", json.dumps({"weight_map": weight_map}))


def fifo(folder: Path) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    os.mkfifo(folder / "generation_config.json")


def adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "base_model_name_or_path": "big/model"}
    (folder / "adapter_config.json").write_text(json.dumps(about))


def modules(*kinds: str) -> Change:
    paths = {kind: f"{i}_{kind}" * (i > 0) for i, kind in enumerate(kinds)}
    listed = [{"idx": 0, "path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in paths.items()]
    return text("modules.json", json.dumps(listed))


def pooling(**modes: bool) -> Change:
    def change(folder: Path) -> None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12, **modes}))

    return change


BERT_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
MALFORMED = "_config.json: cannot be interpreted: "
LAYER = "model.layers.1.mlp.down_proj.weight"
REFUSED: dict[str, tuple[str, Change, list[str]]] = {
    "unknown architecture": ("llama", config(model_type="lama"), ["unknown architecture 'lama'", "'llama'"]),
    "missing": ("llama", tensors(lambda t: t.pop(LAYER)), ["missing: " + LAYER]),
    "extra": ("llama", tensors(lambda t: t.update(more=torch.ones(2))), ["extra: more"]),
    "extra head": ("gpt2", tensors(lambda t: t.update({"score.weight": torch.ones(2)})), ["extra: score.weight"]),
    "wrong": ("llama", tensors(lambda t: t.update({LAYER: torch.ones(3, 2)})), [LAYER, "(3, 2) instead of (12, 20)"]),
    "vocabulary": ("bert", config(vocab_size=30), ["word_embeddings.weight is (31, 12) instead of (30, 12)"]),
    "tokenizer": ("gpt2", lambda folder: write_tokenizer(folder, 32), ["tokenizer has 32 tokens, its model 31"]),
    "no tokenizer": ("gpt2", lambda folder: (folder / "tokenizer.json").unlink(), ["no tokenizer.json"]),
    "positions": ("gpt2", config(n_positions=99), ["transformer.wpe.weight is (40, 12) instead of (99, 12)"]),
    "pickle": ("llama", pickled, ["pickle (pytorch_model.bin)", "save_pretrained"]),
    "no weights": ("llama", lambda folder: (folder / "model.safetensors").unlink(), ["no model.safetensors"]),
    "no config": ("llama", lambda folder: (folder / "config.json").unlink(), ["no config.json"]),
    "cut off": ("llama", lambda f: (f / "model.safetensors").write_bytes(b"1234567"), ["model.safetensors"]),
    "yarn": (
        "llama",
        config(rope_parameters={"rope_type": "yarn", "factor": 2.0}),
        ["rotary positions of the type 'yarn'"],
    ),
    "windows": ("qwen2", config(layer_types=["full_attention", "sliding_attention"]), ["with different windows"]),
    "scores": ("gpt2", config(scale_attn_by_inverse_layer_idx=True), ["scale_attn_by_inverse_layer_idx = True"]),
    "biases": ("llama", config(attention_bias=True), ["attention_bias = True is not supported"]),
    "activation": ("gpt2", config(activation_function="mish"), ["activation_function = 'mish'", "'gelu_new'"]),
    "two vocabularies": ("marian", config(share_encoder_decoder_embeddings=False), ["share_encoder_decoder"]),
    "no sines": (
        "pegasus",
        tensors(lambda t: t["model.decoder.embed_positions.weight"].add_(0.1)),
        ["model.decoder.embed_positions.weight does not hold sines"],
    ),
    "a million sines": (
        "pegasus",
        config(max_position_embeddings=1 << 20),
        ["model.encoder.embed_positions.weight does not hold sines"],
    ),
    "norms after": ("pegasus", config(normalize_before=False), ["normalize_before = False is not supported"]),
    "no size": ("bert", config(hidden_size=None), ["has no 'hidden_size'"]),
    "another table": (
        "llama-3",
        tensors(lambda t: t.update({"lm_head.weight": torch.ones(31, 12)})),
        ["lm_head.weight and model.embed_tokens.weight differ"],
    ),
    "oblong": ("vit", config(image_size=[8, 16]), ["only squares"]),
    "no vocabulary": ("bert", config(vocab_size=-5), ["config.json: vocab_size = -5 is not the size of a vocabulary"]),
    "vocabulary of text": ("bert", config(vocab_size="x"), ["config.json: vocab_size = 'x'"]),
    "ten million layers": (
        "bert",
        config(num_hidden_layers=10_000_000),
        ["config.json: num_hidden_layers = 10000000", "from 1 to 1,000"],
    ),
    "a number of layers": ("llama", config(num_hidden_layers="2"), ["config.json: num_hidden_layers = 2: "]),
    "no layers": ("gpt2", config(n_layer=-1), ["config.json: ", "layers"]),
    "no heads": ("llama", config(num_attention_heads=0), ["config.json: "]),
    "a huge width": ("llama", config(hidden_size=10**18), ["config.json: "]),
    "huge sines": ("pegasus", config(max_position_embeddings=10**12), ["config.json: max_position_embeddings"]),
    "a list of positions": ("llama", config(rope_parameters=["x"]), ["config.json: "]),
    "labels in a list": ("bert-label", config(id2label=["a", "b", "c"]), ["config.json: id2label is not a table"]),
    "no ids": ("gpt2", config(eos_token_id=[{}], layer_norm_epsilon="x"), ["config.json: layer_norm_epsilon = x: "]),
    "nested deep": (
        "bert",
        text("config.json", "[" * 100_000),
        ["config.json: cannot be read: maximum recursion depth"],
    ),
    "no finite number": ("bert", text("config.json", '{"hidden_size": 1e999}'), ["config.json: cannot be read: 1e999"]),
    "a weight_map of words": ("llama", index(["model.safetensors"]), ["index.json: its weight_map is not a table"]),
    "a weight_map of numbers": ("llama", index({"a": 1}), ["index.json: its weight_map is not a table"]),
    "weights above": ("llama", index({"a": "../a.safetensors"}), ["names '../a.safetensors', which is not a safe"]),
    "weights elsewhere": ("llama", index({"a": "/etc/passwd"}), ["names '/etc/passwd', which is not a safetensors"]),
    "weights not there": ("llama", index({"a": "a.safetensors"}), ["a.safetensors: there is no such file"]),
    "NaN": (
        "llama",
        tensors(lambda t: t[LAYER].__setitem__((0, 1), torch.nan)),
        [f"llama: {LAYER} holds NaN or infinity"],
    ),
    "quantized": ("llama", tensors(lambda t: t.update({LAYER: t[LAYER].to(torch.int8)})), ["int8: a quantized model"]),
    "quantization": ("llama", config(quantization_config={"bits": 4}), ["quantization_config = {'bits': 4} is not"]),
    "a fifo": ("bert", fifo, ["generation_config.json: is not a regular file"]),
    "an adapter": ("llama", adapter, ["adapter_config.json: its base big/model is not in a directory", "--base DIR"]),
    "an adapter beside a model": (
        "llama",
        tensors(lambda t: t.update({"base_model.model.a.lora_A.weight": torch.ones(2)})),
        ["has weights of an adapter"],
    ),
    "a dense layer": ("bert", modules("Transformer", "Pooling", "Dense"), ["modules.json: the module '2_Dense'"]),
    "modules": ("bert", text("modules.json", "{}{"), ["modules.json: cannot be read"]),
    "two poolings": (
        "bert",
        pooling(pooling_mode_cls_token=True, pooling_mode_mean_tokens=True),
        ["1_Pooling/config.json: the pooling cls with mean is not supported"],
    ),
    "another pooling": (
        "bert",
        pooling(pooling_mode_lasttoken=True),
        ["1_Pooling/config.json: the pooling lasttoken is not supported"],
    ),
    "no pooling": (
        "bert",
        modules("Transformer", "Pooling"),
        ["1_Pooling/config.json: is missing or empty, but modules.json names it"],
    ),
    "a pooling elsewhere": (
        "bert",
        text("modules.json", '[{"path": "0_Pooling", "type": "Pooling"}]'),
        ["modules.json: the directory '0_Pooling' of the pooling is not supported"],
    ),
    "upper case": ("bert", cased, ["tokenizer_config.json: do_lower_case = True, but False in its tokenizer.json"]),
    "a list of tokens": ("bert", settings(added_tokens_decoder=[1]), ["tokenizer" + MALFORMED]),
    "no id of a token": ("bert", settings(added_tokens_decoder={"x": "w1"}), ["tokenizer" + MALFORMED]),
    "a token without text": ("bert", settings(added_tokens_decoder={"31": {}}), ["tokenizer" + MALFORMED]),
    "no extra tokens": ("bert", settings(extra_special_tokens=5), ["tokenizer" + MALFORMED]),
    "no names of inputs": ("bert", settings(model_input_names=5), ["tokenizer" + MALFORMED]),
    "a length of text": ("marian", generation(max_length="20"), ["generation" + MALFORMED]),
    "beams of text": ("gpt2", generation(num_beams="4"), ["generation" + MALFORMED]),
    "a penalty of text": ("gpt2", generation(num_beams=4, length_penalty="x"), ["generation" + MALFORMED]),
    "one bad word": ("marian", generation(bad_words_ids=3), ["generation" + MALFORMED]),
    "beams in config.json": ("marian", older, ["/config.json: cannot be interpreted: "]),
    "no beams": ("gpt2", generation(num_beams=9999), ["gpt2: decoding.beam: ", "correct generation_config.json, or"]),
    "another problem": ("bert-label", config(problem_type="x"), ["config.json: problem_type = 'x' is unknown"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault: str, publish: Publish, tmp_path: Path) -> None:
    name, change, messages = REFUSED[fault]
    folder, run = publish(name), tmp_path / "run"
    change(folder)
    with pytest.raises(SeqloomError) as caught:
        import_run(str(folder), str(run), Reporter(0))
    assert caught.value.exit_code == 2
    for message in messages:
        assert message in str(caught.value)
    assert not run.exists()


def test_weights_that_do_not_fit_into_memory(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish("llama")
    size = 4 * sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    shortages: list[int | None] = [None, 1000]  # of nothing; of the weights
    sizes = []
    monkeypatch.setattr("seqloom.tasks.memory.shortage", lambda size, at: sizes.append(size) or shortages.pop(0))
    with pytest.raises(SeqloomError, match=r"llama: a model of [\d,]+ parameters needs 0.0 GB .* 0.0 GB are free"):
        import_run(str(folder), str(tmp_path / "run"), Reporter(0))
    assert sizes == [0, size]
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(publish: Publish, tmp_path: Path) -> None:
    folder, run = str(publish("bert")), str(tmp_path / "run")
    import_run(folder, run, Reporter(0))
    with pytest.raises(UsageError, match="a run already"):
        import_run(folder, run, Reporter(0))
    with pytest.raises(UsageError, match="is not for the task 'translate'"):
        import_run(folder, str(tmp_path / "other"), Reporter(0), "translate")


def test_a_lack_of_memory_is_no_malformed_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="memory"), interpreting(tmp_path):
        raise RuntimeError("not enough memory")


def test_harmless_names_and_old_ones_are_accepted(publish: Publish, tmp_path: Path) -> None:
    def old(weights: dict[str, torch.Tensor]) -> None:
        weights["embeddings.position_ids"] = torch.arange(23)[None]
        for end, was in (("weight", "gamma"), ("bias", "beta")):
            weights[f"embeddings.LayerNorm.{was}"] = weights.pop(f"embeddings.LayerNorm.{end}")

    folder = publish("bert")
    plain = import_run(str(folder), str(tmp_path / "plain"), Reporter(0))
    tensors(old)(folder)
    run = import_run(str(folder), str(tmp_path / "run"), Reporter(0))
    files = [r.best(print).path / "model.safetensors" for r in (plain, run)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_only_a_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded: list[str] = []

    def download(name: str, **options: object) -> str:
        downloaded.append(name)
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert find(str(tmp_path)) == tmp_path
    for path in ("./gpt2", "../gpt2", "~/gpt2", ".gpt2", "/models/gpt2", "a/b/c", "gpt2/", "a/.gpt2", "models/gpt2"):
        with pytest.raises(
            RunError, match=f"^{re.escape(path)}: no such directory\n  name a directory with config.json"
        ):
            find(path)
    assert not downloaded
    for name in ("openai-community/gpt2", "gpt2", "no-such/gpt2.5_x"):
        assert find(name) == tmp_path
    assert downloaded == ["openai-community/gpt2", "gpt2", "no-such/gpt2.5_x"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="extra 'hf'"):
        find("openai-community/gpt2")


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if "unknown" in self.path else 403)
        self.send_header("X-Error-Code", "RepoNotFound" if "unknown" in self.path else "GatedRepo")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_a_failure_of_the_hub_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself, with a server that refuses, and with a port on which nothing listens."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(RunError, match=r"^unknown/gpt2: .* no such model on the Hugging Face hub\n  check the"):
            find("unknown/gpt2")
        with pytest.raises(
            RunError, match=r"no access to this model on the Hugging Face hub\n  .* ask for access on its page"
        ):
            find("gated/gpt2")
        server.shutdown()
    with pytest.raises(RunError, match=r"failed: .*refused\n  .* hf download some/gpt2 --local-dir DIR$"):
        find("some/gpt2")


@pytest.mark.parametrize(
    ("kind", "preset", "family"),
    [
        *[(DecoderOnlyConfig, preset, "gpt2") for preset in ("nano", "gpt2-xl")],
        *[
            (DecoderOnlyConfig, preset, family)
            for preset, family in (("llama-nano", "qwen3"), ("small-llama", "llama"))
        ],
        *[
            (EncoderOnlyConfig, preset, family)
            for preset, family in (("bert-tiny", "bert"), ("small-megatron", "megatron-bert"))
        ],
        *[(EncoderDecoderConfig, preset, "pegasus") for preset in ("", "tiny", "small")],
        *[(EncoderDecoderConfig, preset, "marian") for preset in ("base", "big")],
    ],
)
def test_which_family_expresses_our_models(kind: type, preset: str, family: str) -> None:
    assert express(build(kind, {"preset": preset}), {})[0].name == family


def test_the_demo_s_model_is_of_pegasus_form() -> None:
    assert express(demo_config("en", "de", "", 1, 0).model, {})[0].name == "pegasus"


def test_what_no_family_can_express_is_named() -> None:
    recurrent = build(DecoderOnlyConfig, {"preset": "small-lstm"})
    with pytest.raises(UsageError, match=r"decoder\.kind = 'recurrent'"):
        express(recurrent, {})
    interleaved = {"positions": {"kind": "sinusoidal", "interleaved": True}}
    with pytest.raises(UsageError, match=r"pegasus, lacks decoder\.positions\.interleaved = True"):
        express(build(EncoderDecoderConfig, {"decoder": interleaved}), {})
    with pytest.raises(UsageError, match=r"megatron-bert, lacks .*positions\.kind = 'rotary'"):
        express(build(EncoderOnlyConfig, {"preset": "small-bert"}), {})
    with pytest.raises(UsageError, match="the nearest, bert, lacks pooler = 'none'"):
        express(build(EncoderOnlyConfig, {"preset": "bert-tiny", "pooler": "none"}), {"label": 3})
    with pytest.raises(UsageError, match="the nearest, bert, lacks matches = True"):
        express(build(EncoderOnlyConfig, {"preset": "bert-tiny", "matches": True}), {})


def test_the_names_of_wrapped_models_are_stripped(publish: Publish, tmp_path: Path) -> None:
    reporter = Listener()
    folder = publish("llama")
    plain = import_run(str(folder), str(tmp_path / "plain"), Reporter(0)).best(print).path / "model.safetensors"
    for number, prefix in enumerate(("_orig_mod.", "module.", "base_model.model.", "module._orig_mod.")):
        wrapped = tmp_path / f"wrapped{number}"
        shutil.copytree(folder, wrapped)
        tensors(lambda t, p=prefix: [t.update({p + n: t.pop(n)}) for n in list(t)])(wrapped)  # type: ignore[misc]
        run = import_run(str(wrapped), str(tmp_path / f"run{number}"), reporter)
        assert (run.best(print).path / "model.safetensors").read_bytes() == plain.read_bytes()
        assert all(part in reporter.said[-2] for part in prefix.split(".") if part)
