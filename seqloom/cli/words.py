"""seqloom words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Count, print_json, print_table
from seqloom.errors import UsageError

Action = Literal["similar", "analogy", "odd-one-out", "similarity", "map", "export"]
_NEEDED = {"similar": (1, 99), "analogy": (3, 3), "odd-one-out": (3, 99), "similarity": (2, 2), "export": (1, 1)}


def words(
    run: str,
    action: Action,
    /,
    *arguments: Annotated[str, Parameter(help="Words; for export, the file to write.")],
    count: Count = 10,
    method: Literal["pca", "tsne"] = "pca",
    to: Literal["word2vec", "binary", "glove"] | None = None,
    any_size: bool = False,
    json: AsJson = False,
) -> None:
    """Use word vectors: nearest words, analogies, maps, export.

    similar WORD...: the nearest words. analogy A B C: the word that is to C as B is to A. odd-one-out WORD...: the word
    that fits least. similarity A B: the cosine. map [WORD...]: a map in the run's report. export FILE: all vectors.

    Args:
        run: The run directory, or a file of vectors in the format of word2vec, fastText or GloVe.
        action: What to do.
        count: The number of words to print.
        method: How the map projects the vectors to two dimensions.
        any_size: Read a file whose header states another number of words than it has.
        to: The format of the export: word2vec (text), binary or glove; by default binary for .bin, else word2vec.
    """
    from seqloom.files import output_in
    from seqloom.tasks.word_vectors.task import export_words, load_words
    from seqloom.workflows.report import map_words

    least, most = _NEEDED.get(action, (0, 10_000))
    if not least <= len(arguments) <= most:
        raise UsageError(f"{action} takes {least} words{' or more' * (most > least)}, not {len(arguments)}")
    if action == "map":
        print(map_words(run, arguments, method))
        return
    vectors = load_words(run, any_size=any_size)
    match action:
        case "similar":
            cosines = vectors.similar(arguments, count)
        case "analogy":
            cosines = vectors.analogy(arguments[0], arguments[1], arguments[2], count)
        case "odd-one-out":
            cosines = vectors.odd_one_out(arguments)
        case "similarity":
            cosines = [(" ".join(arguments), vectors.similarity(arguments[0], arguments[1]))]
        case "export":
            path = Path(arguments[0])
            with output_in(path.parent, path.name):
                export_words(vectors, arguments[0], to)
            size, width = vectors.vectors.shape
            print(f"{arguments[0]} written: {size:,} words, {width} dimensions")
            return
    if json:
        print_json([{"word": word, "cosine": cosine} for word, cosine in cosines])
    else:
        rows = [(word, round(cosine, 4)) for word, cosine in cosines]
        print_table(f"{action} {' '.join(arguments)}", ("word", "cosine"), rows)
