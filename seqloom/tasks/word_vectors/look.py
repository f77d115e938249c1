"""The map of word vectors in the report."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.files import read_sealed
from seqloom.inspection.charts import scatter
from seqloom.inspection.page import Markup
from seqloom.models.word_vectors import WordVectors
from seqloom.run import Run
from seqloom.tasks.task import Seen

MAP_FILE = "map.json"
_MAPPED = 150


def look(run: Run, vectors: WordVectors, texts: Sequence[str]) -> Seen:
    """A map of `texts`, or of the words of the last `map_words`, or of frequent words without the most frequent."""
    words, saved = vectors.vocabulary.words, run.path / MAP_FILE
    known = read_sealed(saved, "remove it: a map of frequent words is drawn then") if saved.is_file() else {}
    chosen = list(texts) or known.get("words") or words[len(words) // 50 :][:_MAPPED]
    parameters = run.info()["training"]["parameters"]
    drawn = {"Map": word_map(vectors, chosen, known.get("method", "pca"))} if len(chosen) > 2 else {}
    return Seen([], parameters, drawn)


def word_map(vectors: WordVectors, words: Sequence[str], method: str = "pca") -> Markup:
    """A picture of words in a plane, as SVG."""
    at = vectors.map(words, method)
    how = "t-SNE" if method == "tsne" else "the two directions in which they differ most (PCA)"
    return scatter(f"{len(words)} words in a plane", f"The vectors of {len(words)} words by {how}.", words, at)
