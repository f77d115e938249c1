"""Word vectors to look at: a map of words in the report."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.inspection.charts import scatter
from seqloom.inspection.page import Markup
from seqloom.models.word_vectors import WordVectors
from seqloom.run import Json, Run, read_json
from seqloom.tasks.task import Seen
from seqloom.tasks.word_vectors.task import load_words
from seqloom.training.log import Reporter

MAP_FILE = "map.json"
_MAPPED = 150


def look_at_words(run: Run, texts: Sequence[str], samples: Sequence[Json], reporter: Reporter) -> Seen:
    """A map of the words given; or of those of the last `map_words`; or of frequent ones but for the most frequent."""
    vectors = load_words(run.path, say=reporter.warn)
    words, saved = vectors.vocabulary.words, run.path / MAP_FILE
    known = read_json(saved, "remove it: a map of frequent words is drawn then") if saved.is_file() else {}
    chosen = list(texts) or known.get("words") or words[len(words) // 50 :][:_MAPPED]
    parameters = run.info()["training"]["parameters"]
    return Seen(
        [], parameters, {"Map": word_map(vectors, chosen, known.get("method", "pca"))} if len(chosen) > 2 else {}
    )


def word_map(vectors: WordVectors, words: Sequence[str], method: str = "pca") -> Markup:
    """A picture of words in a plane, as SVG."""
    at = vectors.map(words, method)
    how = "t-SNE" if method == "tsne" else "the two directions in which they differ most (PCA)"
    return scatter(f"{len(words)} words in a plane", f"The vectors of {len(words)} words by {how}.", words, at)
