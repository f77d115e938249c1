"""seqloom words."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.cli.common import AsJson, check_typed, print_json, print_table
from seqloom.errors import UsageError

Action = Literal["similar", "analogy", "odd-one-out", "similarity", "map", "export"]
_NEEDED = {"similar": (1, 99), "analogy": (3, 3), "odd-one-out": (3, 99), "similarity": (2, 2), "export": (1, 1)}


def words(
    run: str,
    action: Action,
    /,
    *given: Annotated[str, Parameter(help="Words; for export, the file to write.")],
    count: int = 10,
    method: Literal["pca", "tsne"] = "pca",
    to: Literal["word2vec", "binary", "glove"] | None = None,
    json: AsJson = False,
) -> None:
    """Use word vectors: of a run, or of a file in a format of word2vec, fastText or GloVe.

    similar WORD...: the nearest words. analogy A B C: what is to C as B is to A. odd-one-out WORD...: what fits least.
    similarity A B: the cosine. map [WORD...]: a picture by --method pca or tsne, in the run's report. export FILE:
    written --to word2vec (text), binary or glove; by default binary for .bin, else word2vec.
    """
    from seqloom.tasks.word_vectors.task import export_words, load_words
    from seqloom.workflows.report import map_words

    check_typed(given)
    least, most = _NEEDED.get(action, (0, 10_000))
    if not least <= len(given) <= most:
        raise UsageError(f"{action} takes {least} words{' or more' * (most > least)}, not {len(given)}")
    if action == "map":
        print(map_words(run, given, method))
        return
    vectors = load_words(run)
    match action:
        case "similar":
            found = vectors.similar(given, count)
        case "analogy":
            found = vectors.analogy(given[0], given[1], given[2], count)
        case "odd-one-out":
            found = vectors.odd_one_out(given)
        case "similarity":
            found = [(f"{given[0]} {given[1]}", vectors.similarity(given[0], given[1]))]
        case "export":
            export_words(vectors, given[0], to)
            print(f"{given[0]} written: {len(vectors.vocabulary):,} words, {vectors.vectors.shape[1]} numbers each")
            return
    if json:
        print_json([{"word": word, "cosine": cosine} for word, cosine in found])
    else:
        print_table(f"{action} {' '.join(given)}", ("word", "cosine"), [(w, round(c, 4)) for w, c in found])
