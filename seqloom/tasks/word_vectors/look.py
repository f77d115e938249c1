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
    """A map of `texts`, of the words of the last `map_words`, or of frequent words apart from the most frequent."""
    words, file = vectors.vocabulary.words, run.path / MAP_FILE
    saved = read_sealed(file, "remove it to get a map of frequent words") if file.is_file() else {}
    mapped = list(texts) or saved.get("words") or words[len(words) // 50 :][:_MAPPED]
    parameters = run.info()["training"]["parameters"]
    pictures = {"Map": word_map(vectors, mapped, saved.get("method", "pca"))} if len(mapped) > 2 else {}
    return Seen([], parameters, pictures)


def word_map(vectors: WordVectors, words: Sequence[str], method: str = "pca") -> Markup:
    """A map of words in the plane, as SVG."""
    how = "t-SNE" if method == "tsne" else "the two directions in which they differ most (PCA)"
    title, caption = f"{len(words)} words in a plane", f"The vectors of {len(words)} words by {how}."
    return scatter(title, caption, words, vectors.map(words, method))
