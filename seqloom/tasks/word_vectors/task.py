"""Word vectors: from text of any size to a trained run and its use, also as the beginning of other models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from seqloom.data.formats.lines import expand
from seqloom.data.sources.words import WordText
from seqloom.errors import ConfigError, DataError, counted
from seqloom.evaluation.word_tests import word_test
from seqloom.files import Json, read_sealed
from seqloom.inspection.charts import scatter
from seqloom.interop.vectors import VectorFormat, load_vectors, read_vectors, save_vectors
from seqloom.models.word_vectors import Word2Vec, Word2VecConfig, WordVectors, rows_of_words
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_vocabulary
from seqloom.tasks.task import Prepared, RunConfig, Seen, config_of, tested_on
from seqloom.text.tokenizer import Tokenizer
from seqloom.text.vocabulary import Vocabulary
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Measured, Plan
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision
from seqloom.training.schedule import Linear, Schedule
from seqloom.training.word_learner import SGD, BlockConfig, WordLearner

MAP_FILE = "map.json"
_MAPPED = 150  # words of a map
_FREQUENT = 30_000  # the words among which analogies are usually solved, the most frequent ones
_EVERY = 5.0  # seconds between progress lines
_SHOWN = 5  # neighbours of a sample word
_WORDS = 10_000  # words whose n-grams are gathered at a time


def _training() -> TrainingConfig:
    return TrainingConfig(epochs=5.0, evaluate_every=1000, metric="latest", device="cpu")


@dataclass(frozen=True, kw_only=True)
class EmbedWordsConfig(RunConfig):
    """The config of a run of word vectors.

    Args:
        data: the text to learn from, and the test sets for the vectors.
        model: what is predicted from what, and the sizes.
        batches: how the text is distributed to the threads.
        optimizer: how the gradients become a step.
        schedule: the learning rate of each step, as a share of optimizer.lr.
    """

    task: Literal["embed_words"] = "embed_words"
    other_run: ClassVar[str] = "name a run of word vectors, or a file of vectors"
    used_by: ClassVar[str] = "words"
    used_in: ClassVar[Precision] = "fp32"  # vectors are looked up, not multiplied
    data: WordText
    model: Word2VecConfig = field(default_factory=Word2VecConfig)
    batches: BlockConfig = field(default_factory=BlockConfig)
    optimizer: SGD = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=0, floor=1e-4))
    training: TrainingConfig = field(default_factory=_training)

    def __post_init__(self) -> None:
        super().__post_init__()
        training = self.training
        if (training.metric, training.average, training.ema, training.device) != ("latest", "none", 0, "cpu"):
            required = "training.metric must be 'latest', average 'none', ema 0 and device 'cpu'"
            raise ValueError(f"{required} for word vectors")

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig; the ids of the words are in a file without a name in the directory of the run."""
        last = time.monotonic()

        def report(text: str) -> None:
            nonlocal last
            if time.monotonic() - last > _EVERY:
                last = time.monotonic()
                reporter.say(text)

        with nullcontext(run.path) if run is not None else TemporaryDirectory() as folder:
            vocabulary, ids = self.data.encoded(Path(folder), report)

        def plan(config: EmbedWordsConfig, model: Word2Vec) -> Plan:
            learner = WordLearner(model, vocabulary, ids, config.batches, config.seed, torch.get_num_threads())
            training, per_epoch = config.training.lasting(learner.per_epoch), float(learner.per_epoch)
            measure = _measure(learner, vocabulary)
            return Plan(learner, measure, config.optimizer.lr, config.schedule, training, per_epoch=per_epoch)

        kept = int(vocabulary.counts.sum())
        row = {"split": "train", "words": kept, "lines": ids.size - kept, "distinct": len(vocabulary)}
        row |= {"least": int(vocabulary.counts[-1]), "most": int(vocabulary.counts[0])}
        sizes = f"{counted(kept, 'word')} of text, {len(vocabulary):,} distinct"
        return Prepared({"train": ids.digest()}, Assets(vocabulary=vocabulary), plan, sizes, lambda: [row])

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(vocabulary=load_vocabulary(run))

    def build(self, assets: Assets) -> Word2Vec:
        """See RunConfig."""
        assert assets.vocabulary is not None
        return Word2Vec(self.model, len(assets.vocabulary), self.seed)

    def predictor(self, model: Word2Vec, assets: Assets, **options: Any) -> WordVectors:
        """See RunConfig."""
        assert assets.vocabulary is not None
        return vectors_of(model.input.detach().numpy(), assets.vocabulary, self.model)

    def score(self, predictor: WordVectors, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: scores on lists of analogies and of word similarities; there are no options.

        Analogies are solved among the 30,000 most frequent words, as usual, and among all words.
        """
        files = tested_on(test, self.data.test, options)
        began = time.perf_counter()
        lists = [result for file in files for result in _results(predictor, file)]
        return {**_summary(lists), "lists": lists, "seconds": round(time.perf_counter() - began, 3)}

    def look(self, run: Run, predictor: WordVectors, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: a map of `texts`, of the words of the last `map_words`, or of frequent words."""
        words, file = predictor.vocabulary.words, run.path / MAP_FILE
        saved = read_sealed(file, "remove it to get a map of frequent words") if file.is_file() else {}
        mapped = list(texts) or saved.get("words") or words[len(words) // 50 :][:_MAPPED]
        method, title = saved.get("method", "pca"), f"{len(mapped)} words in a plane"
        how = "t-SNE" if method == "tsne" else "the two directions in which they differ most (PCA)"
        pictures = {}
        if len(mapped) > 2:
            caption = f"The vectors of {len(mapped)} words by {how}."
            pictures["Map"] = scatter(title, caption, mapped, predictor.map(mapped, method))
        return Seen([], run.info()["training"]["parameters"], pictures)


def _measure(learner: WordLearner, vocabulary: Vocabulary) -> Callable[[int], Measured]:
    """Measures the training loss since the last call, and finds the nearest neighbours of some words."""
    words, table = vocabulary.words, learner.model.input.numpy()[: len(vocabulary)]
    shown = [words[at] for at in (300, 1000, 3000) if at < len(words)] or words[:2]

    def measure(step: int) -> Measured:
        vectors = WordVectors(vocabulary, table)
        near = {word: ", ".join(other for other, _ in vectors.similar([word], _SHOWN)) for word in shown}
        samples = [{"step": step, "word": word, "near": text} for word, text in near.items()]
        return {"training_loss": learner.mean_loss()}, samples

    return measure


def load_words(
    path: str | Path | Run, *, say: Callable[[str], None] = lambda text: None, any_size: bool = False
) -> WordVectors:
    """The vectors of a run, from its newest checkpoint, or of a file in a format of word2vec, fastText or GloVe.

    `say` reports the damaged checkpoints that were skipped; for `any_size` see `vector_rows`.
    """
    if not isinstance(path, Run) and Path(path).is_file():
        return load_vectors(str(path), any_size=any_size)
    run = Run.open(path)
    config = config_of(run, EmbedWordsConfig)
    vocabulary = load_vocabulary(run)
    with safe_open(run.best(say).weights, "numpy") as file:
        return vectors_of(file.get_tensor("input"), vocabulary, config.model)


def vectors_of(table: NDArray[np.float32], vocabulary: Vocabulary, config: Word2VecConfig) -> WordVectors:
    """The word vectors of a model: the rows of its table, or for each word the mean of the rows of its n-grams."""
    size = len(vocabulary)
    if not config.longest:
        return WordVectors(vocabulary, table)
    starts, rows = rows_of_words(vocabulary.words, config)
    vectors = np.empty((size, config.width), dtype=np.float32)
    for at in range(0, size, _WORDS):
        part = starts[at : at + _WORDS + 1]
        sums = np.add.reduceat(table[rows[part[0] : part[-1]]], part[:-1] - part[0])
        vectors[at : at + _WORDS] = sums / np.diff(part)[:, None]
    return WordVectors(vocabulary, vectors, (table[size:], config))


def _results(vectors: WordVectors, file: str) -> list[dict[str, Any]]:
    """The result of a list as usual and, for analogies, also that among all words."""
    usual = word_test(vectors, file, _FREQUENT)
    more = usual["kind"] == "analogies" and len(vectors.vocabulary) > _FREQUENT
    return [usual, word_test(vectors, file, 0)] if more else [usual]


def _summary(lists: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Accuracy by kind of analogy, rank correlation by similarity list, and the mean of these correlations."""
    result: dict[str, float] = {}
    for test in lists:
        if test["kind"] == "similarity":
            result[test["file"].split(".")[0].replace("-", "_")] = test["spearman"]
        else:
            for row in test["sections"][-3:]:
                key = "analogies" if row["section"] == "all" else row["section"]
                result.setdefault(key, row["accuracy"])
    correlations = [test["spearman"] for test in lists if test["kind"] == "similarity" and test["spearman"] is not None]
    return result | ({"similarity": float(np.mean(correlations))} if correlations else {})


def export_words(vectors: WordVectors, path: str, kind: VectorFormat | None) -> None:
    """Writes all vectors; without a format, binary for .bin, and otherwise word2vec's text format."""
    save_vectors(vectors, path, kind or ("binary" if path.endswith(".bin") else "word2vec"))


def take_vectors(config: EmbedderConfig, embedder: TokenEmbedder, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Initializes an embedding with the vectors of the file or run that its config names, if any.

    Raises:
        ConfigError: vectors whose width differs from that of the embedding.
        DataError: a file that cannot be read, or contains no word of the vocabulary.
    """
    path = config.vectors
    if not path:
        return
    ids = tokenizer.whole_words()
    rows, at = (
        _run_vectors(path, ids) if expand(path).is_dir() else read_vectors(path, ids, any_size=config.vectors_any_size)
    )
    if not len(at):
        raise DataError("it has no word of the vocabulary", where=path, cure="check that it is in the same language")
    if rows.shape[1] != (width := embedder.weight.shape[1]):
        problem = f"its vectors have {counted(rows.shape[1], 'dimension')}, the model's {width}"
        raise ConfigError(problem, where=path, cure=f"set model.embedding = {rows.shape[1]}")
    embedder.take(torch.from_numpy(rows), torch.from_numpy(at))
    reporter.say(f"{path}: vectors for {len(at):,} of {counted(tokenizer.vocab_size, 'token')}")


def _run_vectors(path: str, ids: Mapping[str, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = load_words(expand(path))
    rows = vectors.vocabulary.index
    common = [word for word in ids if word in rows]
    return vectors.vectors[[rows[word] for word in common]], np.array([ids[word] for word in common], dtype=np.int64)
