from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_up import sentences, translated

from seqloom.errors import RunError, UsageError
from seqloom.interop.published_tokenizer import read_tokenizers
from seqloom.interop.sentencepiece import read_sentencepiece
from seqloom.interop.side_files import read_side_files

pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # raised by SentencePiece
TEXTS = ["ba ko  mi", " tesu\u00a0lan", "püt ½ ﬁsh", "KO ba!", "本 ba", "", "ba\tko", ">>fra<< ba ko", "Ⅷ ①"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """source.spm, target.spm, and vocab.json with the pieces of both, as OPUS-MT has them."""
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: nothing is compared")
    pieces = [">>fra<<"]
    for side, texts in (("source", sentences(150, 1)), ("target", [*map(translated, sentences(150, 2))])):
        with io.BytesIO() as model:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=60,
                hard_vocab_limit=False,
                character_coverage=0.98,
                minloglevel=2,
            )
            (tmp_path / f"{side}.spm").write_bytes(model.getvalue())
        processor = spm.SentencePieceProcessor(model_file=str(tmp_path / f"{side}.spm"))
        pieces += [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    # One piece of the source is not in the model's vocabulary.
    vocabulary = ["</s>", "<unk>", *dict.fromkeys(p for p in pieces if p != "▁ba"), "<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(vocabulary)}))
    return tmp_path


def read(folder: Path, config: dict[str, Any]) -> Any:
    return read_tokenizers(folder, config, read_side_files(folder, config, config), "encoder-decoder")[0]


def marian(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing is compared")
    return transformers.MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))


def test_words_are_those_of_marian(folder: Path) -> None:
    theirs = marian(folder)
    words = len(theirs.get_vocab())
    config = {"vocab_size": words, "pad_token_id": words - 1, "eos_token_id": 0}
    pair = read(folder, {**config, "decoder_start_token_id": words - 1})
    assert pair is not None
    source, target = pair
    assert (target.pad, target.start, target.end, target.unknown) == (words - 1, words - 1, 0, 1)
    texts = [*TEXTS, *sentences(30, 3), *map(translated, sentences(30, 4))]
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [ids.tolist() for ids in source.encode(texts)] == expected
    with_targets = [theirs(text_target=text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [ids.tolist() for ids in target.encode(texts)]
    assert rows == with_targets
    assert target.decode(rows[39:]) == theirs.batch_decode(with_targets[39:], skip_special_tokens=True)


def test_words_are_those_of_sentencepiece(folder: Path) -> None:
    import sentencepiece

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    ours = read_sentencepiece(folder / "source.spm")
    for text in [*TEXTS, *sentences(30, 5)]:
        assert ours.encode(text).ids == theirs.encode(text), text


def test_t5_has_further_words_at_the_end(tmp_path: Path, folder: Path) -> None:
    directory = tmp_path / "t5"
    directory.mkdir()
    (directory / "spiece.model").write_bytes((folder / "source.spm").read_bytes())
    pieces = read_sentencepiece(directory / "spiece.model").get_vocab_size()
    config = {"model_type": "t5", "vocab_size": pieces + 128, "eos_token_id": 2, "pad_token_id": 0}
    pair = read(directory, config)
    assert pair is not None
    assert pair[0] is pair[1]
    assert pair[0].vocab_size == pieces + 128
    assert pair[0].inner.token_to_id("<extra_id_0>") == pieces + 99
    with pytest.raises(RunError, match="its model"):
        read(directory, {**config, "vocab_size": pieces})


def test_pegasus_has_special_tokens_before_the_others(tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: nothing is compared")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing is compared")
    folder = tmp_path / "pegasus"
    folder.mkdir()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(150, 1)),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    )
    pieces = spm.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    theirs = transformers.PegasusTokenizer.from_pretrained(folder)
    vocab_size = pieces.get_piece_size() + 103
    config = {"model_type": "pegasus", "vocab_size": vocab_size, "eos_token_id": 1}
    pair = read(folder, {**config, "pad_token_id": 0, "decoder_start_token_id": 0})
    assert pair is not None
    ours = pair[0]
    assert ours.inner.get_vocab_size() == vocab_size == len(theirs.get_vocab())
    assert (ours.pad, ours.start, ours.end, ours.unknown) == (0, 0, 1, 105)
    texts = [text for text in [*TEXTS, *sentences(30, 3)] if ">>" not in text]
    rows = [ids.tolist() for ids in ours.encode(texts)]
    assert rows == [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert ours.decode(rows[9:]) == theirs.batch_decode(rows[9:], skip_special_tokens=True) == sentences(30, 3)[1:]
    assert rows[0] == [pieces.piece_to_id(p) + 103 for p in pieces.encode(TEXTS[0], out_type=str)]


def test_what_is_no_sentencepiece_model(tmp_path: Path, folder: Path) -> None:
    import sentencepiece

    (tmp_path / "broken.spm").write_bytes((folder / "source.spm").read_bytes()[:50] + b"\xff")
    (tmp_path / "empty.spm").write_bytes(b"")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(99, 1)),
        model_prefix=str(tmp_path / "bpe"),
        vocab_size=30,
        model_type="bpe",
        minloglevel=2,
    )
    unknown = b"\x0a\x09\x0a\x05<unk>\x18\x02"
    (tmp_path / "no-text.spm").write_bytes(unknown + b"\x0a\x02\x18\x01")
    (tmp_path / "no-unknown.spm").write_bytes(b"\x0a\x03\x0a\x01a")
    (tmp_path / "no-map.spm").write_bytes(unknown + b"\x1a\x03\x12\x01x")
    os.mkfifo(tmp_path / "pipe.spm")
    damaged = ("no-text.spm", "no-unknown.spm", "no-map.spm", "pipe.spm")
    for name in ("broken.spm", "empty.spm", "bpe.model", "none.spm", *damaged):
        with pytest.raises(UsageError, match=name):
            read_sentencepiece(tmp_path / name)


@pytest.mark.parametrize("content", [None, {"</s>": 0, "<unk>": 2}, {"</s>": 0, "<unk>": 0}, {"</s>": [], "<unk>": 1}])
def test_tokens_are_numbered_from_0(content: Any, folder: Path) -> None:
    (folder / "vocab.json").unlink()
    if content is not None:
        (folder / "vocab.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"vocab\.json: (does not number its tokens from 0|cannot be interpreted)"):
        read(folder, {"vocab_size": 99})
