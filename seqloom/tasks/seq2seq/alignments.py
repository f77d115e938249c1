"""How well the attention of a translation model aligns words, where somebody has drawn the links by hand."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.data.formats.alignments import Gold, read_alignments
from seqloom.data.formats.lines import is_blank
from seqloom.data.rows import Pairs
from seqloom.errors import DataError, UsageError, counted
from seqloom.files import Json
from seqloom.inspection.inside.flow import Links, align, alignment_error, layers_across
from seqloom.measures import MEASURES
from seqloom.tasks.seq2seq.config import TranslateKeys
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.score import pairs_of
from seqloom.training.log import Reporter


def score_alignments(
    config: TranslateKeys, translator: Translator, test: Sequence[str], file: str, reporter: Reporter
) -> Json:
    """How the links between the words of a test set and its references, by attention, differ from those of a file.

    Args:
        config, translator, test: see `score`.
        file: a line of links for each pair; see `read_alignments`.
        reporter: prints progress.

    The references are read, not translations. The links are those of the mean of all heads: of all layers, and of each
    by itself. All pairs are counted together (Och and Ney 2003). Raises DataError for another number of lines, and for
    words that there are not.
    """
    if config.modality != "text":
        problem = f"the run reads {config.modality}s, and links are between the words of texts"
        raise UsageError(problem, where="--alignments", cure="name a run that translates texts")
    pairs, gold = pairs_of(config, test), read_alignments(file)
    if len(gold) != len(pairs):
        problem = f"{counted(len(gold), 'line')} of links for {counted(len(pairs), 'pair')}"
        raise DataError(problem, where=file, cure="write a line for each pair, a blank one where nothing is linked")
    reporter.say(f"aligning {counted(len(pairs), 'pair')}")
    found: list[set[tuple[int, ...]]] = []
    for number, (source, target, drawn) in enumerate(zip(pairs.sources, pairs.targets, gold, strict=True), 1):
        _check(drawn, source, target)
        if not (is_blank(source) or is_blank(target)):
            each = _aligned(translator, pairs, number - 1, drawn.where)
            found = found or [set() for _ in each]
            for all_links, of_pair in zip(found, each, strict=True):
                all_links |= {(number, *link) for link in of_pair}
    sure, possible = ({(n, *link) for n, g in enumerate(gold, 1) for link in g[part]} for part in (0, 1))
    if not (found and sure):
        raise DataError("no pair has words and a sure link", where=file, cure="write i-j for links that are sure")
    links, *by_layer = found
    name = MEASURES["aer"].name
    return {
        "sentences": len(pairs),
        "aer": 100 * alignment_error(links, sure, possible),
        "precision": 100 * len(links & possible) / len(links) if links else None,
        "recall": 100 * len(links & sure) / len(sure),
        "by_layer": [
            {"layer": i, name: round(100 * alignment_error(of_layer, sure, possible), 2)}
            for i, of_layer in enumerate(by_layer, 1)
        ],
    }


def _check(gold: Gold, source: str, target: str) -> None:
    for side, text, at in (("source", source, 0), ("reference", target, 1)):
        words, last = len(text.split()), max((link[at] for link in gold.possible), default=-1)
        if last >= words:
            problem = f"a link of word {last} of a {side} of {counted(words, 'word')}"
            raise DataError(problem, where=gold.where, cure="count words, which stand between blanks, from 0")


def _aligned(translator: Translator, pairs: Pairs, i: int, where: str) -> list[Links]:
    """The links of a pair by all layers, and by each; `where` names it if it comes from no file."""
    try:
        seen = translator.look(pairs.sources[i], pairs.targets[i])
    except DataError as error:
        file = pairs.files[error.where.startswith("target")]
        where = f"{file}:{pairs.line(i)}" if file else where
        raise DataError(error.problem, where=where, cure="leave the pair out, with its line of links") from None
    return [align(seen), *(align(seen, [layer]) for layer in range(len(layers_across(seen))))]
