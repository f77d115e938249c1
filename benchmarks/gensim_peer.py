"""gensim's Word2Vec as a system of words.py, and as a program: from a text file to a file of vectors.

    python benchmarks/gensim_peer.py CORPUS OUTPUT '{"sg": 1, ...}'

The last argument holds Word2Vec's own settings. It imports nothing but gensim, so that the whole process is gensim's.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def train(corpus: str, settings: dict[str, Any]) -> tuple[Any, float]:
    """The trained Word2Vec, and the seconds of its training alone, in which it reads the file again (its fastest
    way)."""
    from gensim.models import Word2Vec

    model = Word2Vec(**settings)
    model.build_vocab(corpus_file=corpus)
    began = time.perf_counter()
    model.train(
        corpus_file=corpus,
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=settings["epochs"],
    )
    return model, time.perf_counter() - began


if __name__ == "__main__":
    trained, _ = train(sys.argv[1], json.loads(sys.argv[3]))
    trained.wv.save_word2vec_format(sys.argv[2], binary=True)
