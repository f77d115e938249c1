"""JoeyNMT 2.3 as a system of translate.py, which runs it by the Python of JoeyNMT's own environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from common import BEAM, BOS, DROPOUT, EOS, HEADS, INNER, LAYERS, OUTPUT_LENGTH, PAD, UNK, VOCAB_SIZE, WIDTH, Ids


def joeynmt_model() -> Any:
    """JoeyNMT's Transformer of the benchmark's size with random weights, in fp32."""
    from joeynmt.model import build_model  # type: ignore[import-not-found]
    from joeynmt.vocabulary import Vocabulary  # type: ignore[import-not-found]

    symbols = {"unk": ("<unk>", UNK), "pad": ("<pad>", PAD), "bos": ("<s>", BOS), "eos": ("</s>", EOS)}
    tokens = {f"{name}_token": token for name, (token, _) in symbols.items()}
    ids = {f"{name}_id": i for name, (_, i) in symbols.items()}
    special = SimpleNamespace(**tokens, **ids, sep_token=None, sep_id=None, lang_tags=[])
    vocabulary = Vocabulary([f"word{i}" for i in range(len(symbols), VOCAB_SIZE)], special)
    side = {
        "type": "transformer",
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "hidden_size": WIDTH,
        "ff_size": INNER,
        "dropout": DROPOUT,
        "layer_norm": "pre",
        "embeddings": {"embedding_dim": WIDTH, "scale": True, "dropout": DROPOUT},
    }
    settings = {"tied_embeddings": True, "tied_softmax": True, "encoder": side, "decoder": dict(side)}
    return build_model(settings, vocabulary, vocabulary).eval()


def joeynmt_translate(model: Any, sources: list[Ids], size: int) -> list[Ids]:
    """Translate by JoeyNMT's `search`, `size` sentences at a time, every output of the fixed length."""
    import torch
    from joeynmt.batch import Batch  # type: ignore[import-not-found]
    from joeynmt.search import search  # type: ignore[import-not-found]

    outputs: list[Ids] = []
    for begin in range(0, len(sources), size):
        rows = sources[begin : begin + size]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        batch = Batch(
            src=torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]),
            src_length=lengths,
            src_prompt_mask=None,
            trg=None,
            trg_prompt_mask=None,
            indices=torch.arange(len(rows)),
            device=torch.device("cpu"),
            pad_index=PAD,
            eos_index=EOS,
            is_train=False,
        )
        with torch.inference_mode():
            found, _, _ = search(
                model=model,
                batch=batch,
                max_output_length=OUTPUT_LENGTH,
                min_output_length=OUTPUT_LENGTH,
                beam_size=BEAM,
                beam_alpha=1.0,
                n_best=1,
            )
        outputs.extend(found.tolist())
    return outputs
