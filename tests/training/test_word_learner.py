"""Learning word vectors: what is drawn, that stopping changes nothing, and whole runs made small."""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toys import Listener, damage, left_behind

from seqloom.data.batches.word_ids import END, WordIds
from seqloom.data.sources.words import WordText
from seqloom.errors import DivergedError, RunError
from seqloom.models.word_vectors import Word2Vec, Word2VecConfig, rows_of_words
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.run import Run
from seqloom.tasks.word_vectors.task import EmbedWordsConfig, load_words, take_vectors
from seqloom.text.tokenizer import WordLevel
from seqloom.text.training import train_tokenizer
from seqloom.text.vocabulary import Vocabulary
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.training.loop import Learner, Step
from seqloom.training.word_learner import SGD, BlockConfig, WordLearner
from seqloom.workflows.train import train_run

TOPICS = [[f"{letter}{n}" for n in range(7)] for letter in "abcde"]
"""Words that occur together, and only with each other and with "of"."""


def topical(count: int, seed: int = 1) -> list[list[str]]:
    chance = random.Random(seed)
    return [chance.choices([*chance.choice(TOPICS), "of"], k=chance.randint(2, 19)) for _ in range(count)]


LINES = topical(307)
COUNTS = {word: sum(line.count(word) for line in LINES) for topic in TOPICS for word in (*topic, "of")}
VOCABULARY = Vocabulary.ranked(COUNTS)


class Watched(WordIds):
    """Tells which parts were read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read_from = list[tuple[int, int]]()

    def read(self, start: int, stop: int) -> np.ndarray:
        self.read_from.append((start, stop))
        return super().read(start, stop)


@pytest.fixture
def ids(tmp_path: Path) -> Watched:
    made = Watched(tmp_path)
    for line in LINES:
        made.append(np.array([*map(VOCABULARY.index.__getitem__, line), END], dtype=np.int32))
    return made


def learner(
    ids: WordIds,
    *,
    words: int = 61,
    step: int = 5,
    deterministic: bool = True,
    seed: int = 1,
    threads: int = 1,
    **options: object,
) -> WordLearner:
    model = Word2Vec(Word2VecConfig(**({"width": 13, "window": 3, "sample": 0.1} | options)), len(VOCABULARY), seed)
    return WordLearner(model, VOCABULARY, ids, BlockConfig(words, step, deterministic), seed, threads)


def taken(own: WordLearner, count: int, start: int = 0, lr: float = 0.05) -> list[Step]:
    return list(islice(own.steps(start, lambda number: lr / number**0.5), count))


def bits(own: WordLearner) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in own.model.parameters()]


def facts(steps: list[Step]) -> list[tuple[object, ...]]:
    return [(s.number, s.loss, s.nll, s.lr, s.tokens) for s in steps]


def test_it_is_a_learner(ids):
    assert isinstance(learner(ids), Learner)


METHODS = [{}, {"method": "cbow", "negative": 0}, {"shortest": 1, "longest": 2, "buckets": 29}]


@pytest.mark.parametrize("options", METHODS, ids=str)
@pytest.mark.parametrize("stop", [1, 7, "an epoch", "more"])
def test_going_on_from_what_was_saved_gives_the_same_bits(ids, tmp_path, options, stop):
    straight = learner(ids, threads=3, **options)
    total = straight.per_epoch + 5
    stop = {"an epoch": straight.per_epoch, "more": straight.per_epoch + 2}.get(stop, stop)
    assert straight.per_epoch > 7
    expected = taken(straight, total)
    before = learner(ids, threads=3, **options)
    first = taken(before, stop)
    before.save(tmp_path)
    after = learner(ids, threads=3, **options)
    after.load(tmp_path)
    second = taken(after, total - stop, stop)
    assert facts(first + second) == facts(expected)
    assert bits(after) == bits(straight)


def test_other_seeds_give_other_vectors(ids):
    first, again, other = (learner(ids, seed=seed) for seed in (1, 1, 2))
    for own in (first, again, other):
        taken(own, 3)
    assert bits(first) == bits(again)
    assert bits(first) != bits(other)
    assert bits(first) != bits(learner(ids))


def reads(own: WordLearner, ids: Watched, start: int, count: int) -> list[list[tuple[int, int]]]:
    """The parts of the text that each step learns from."""
    steps, found = own.steps(start, lambda number: 0.01), []
    for _ in range(count):
        ids.read_from.clear()
        next(steps)
        found.append(list(ids.read_from))
    return found


def test_each_epoch_reads_all_of_the_text_in_another_order(ids):
    own = learner(ids)
    per_epoch = own.per_epoch
    found = reads(own, ids, 0, 3 * per_epoch)
    epochs = [[part for step in found[at : at + per_epoch] for part in step] for at in range(0, len(found), per_epoch)]
    for parts in epochs:
        ends = [0, *(stop for _, stop in sorted(parts))]
        assert [start for start, _ in sorted(parts)] == ends[:-1]
        assert ends[-1] == ids.size
        assert all(stop - start <= 61 for start, stop in parts)
    assert len({tuple(parts) for parts in epochs}) == 3
    assert all(parts != sorted(parts) for parts in epochs)


def test_the_order_is_a_pure_function_of_seed_and_epoch(ids):
    straight = reads(learner(ids), ids, 0, 2 * learner(ids).per_epoch)
    for start in (0, 3, len(straight) // 2, len(straight) // 2 + 3):
        assert reads(learner(ids), ids, start, 2) == straight[start : start + 2]
    assert reads(learner(ids, seed=2), ids, 0, 5) != straight[:5]
    assert reads(learner(ids, width=7, negative=0), ids, 0, 5) == straight[:5]


def test_what_is_drawn_is_another_in_each_epoch(ids):
    """The whole text as one block, learned from the same tables and at the same rate."""
    found = []
    for epoch in (0, 1, 1):
        own = learner(ids)
        own.edges, own.blocks, own.step, own.per_epoch = np.array([0, ids.size]), 1, 1, 1
        next(own.steps(epoch, lambda number: 0.05))
        found.append(bits(own))
    assert found[0] != found[1] == found[2]


def test_a_step_tells_what_it_learned_from(ids):
    own = learner(ids)
    steps = taken(own, own.per_epoch)
    assert [s.number for s in steps] == list(range(1, own.per_epoch + 1))
    assert sum(s.tokens for s in steps) == ids.size
    assert [s.lr for s in steps] == [0.05 / number**0.5 for number in range(1, own.per_epoch + 1)]
    # At the beginning all scores are near 0: log 2 for the word and each of at most five others drawn against it.
    assert 2 * np.log(2) < taken(learner(ids), 1, lr=1e-9)[0].loss < 6 * np.log(2)


def test_the_mean_loss_is_that_since_it_was_last_asked(ids):
    own = learner(ids)
    first = [s.loss for s in taken(own, 7)]
    mean = own.mean_loss()
    assert min(first) < mean < max(first)
    later = [s.loss for s in taken(own, 3, 7)]
    assert min(later) < own.mean_loss() < max(later)


@pytest.mark.parametrize("options", [*METHODS, {"negative": 0}, {"method": "cbow"}], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_it_learns_with_one_thread_and_with_several(ids, options, threads):
    own = learner(ids, deterministic=False, threads=threads, words=31, sample=0.0, **options)
    means = []
    for epoch in range(15):
        list(islice(own.steps(epoch * own.per_epoch, lambda number: 0.05), own.per_epoch))
        means.append(own.mean_loss())
    assert means[-1] < 0.93 * means[0]
    starts, rows = rows_of_words(VOCABULARY.words, own.model.config)
    table = own.model.input.detach().numpy()
    vectors = np.add.reduceat(table[rows], starts[:-1])
    vectors -= vectors.mean(0)
    scores = vectors @ vectors.T / np.linalg.norm(vectors, axis=1)
    np.fill_diagonal(scores, -np.inf)
    near = [VOCABULARY.words[at] for at in scores.argmax(0)]
    same = [a[0] == b[0] for a, b in zip(VOCABULARY.words, near, strict=True)]
    assert sum(same) > 0.8 * len(same)


def test_a_small_text_is_cut_finer_but_not_within_lines(ids):
    own, alike = (learner(ids, words=10_000, step=32, threads=threads) for threads in (2, 64))
    assert own.blocks == -(-ids.size // 1000)
    assert own.step == 1
    assert np.array_equal(own.edges, alike.edges)
    assert all(ids.read(edge - 1, edge)[0] == END for edge in own.edges[1:].tolist())


def test_a_tiny_text_is_learned_from(tmp_path):
    """Blocks so short that each word were alone in its own would teach nothing."""
    made = WordIds(tmp_path)
    for line in LINES[:5]:
        made.append(np.array([*map(VOCABULARY.index.__getitem__, line), END], dtype=np.int32))
    own = learner(made, threads=3, sample=0.0)
    before = bits(own)
    taken(own, own.per_epoch)
    assert bits(own) != before


@pytest.mark.parametrize("options", [{}, {"negative": 0}, {"method": "cbow"}], ids=str)
@pytest.mark.parametrize("lr", [100.0, 1e10, 1e300])
def test_an_absurd_rate_is_told(ids, options, lr):
    with pytest.raises(DivergedError, match="the loss is") as found:
        taken(learner(ids, sample=0.0, **options), 200, lr=lr)
    assert "lower optimizer.lr" in found.value.cure


def test_weights_of_another_size_are_refused(ids, tmp_path):
    learner(ids).save(tmp_path)
    with pytest.raises(RunError, match="do not fit"):
        learner(ids, width=7).load(tmp_path)


@pytest.mark.parametrize("make", [lambda: SGD(lr=0.0), lambda: BlockConfig(words=0), lambda: BlockConfig(step=0)])
def test_values_that_make_no_sense(make):
    with pytest.raises(ValueError, match="must"):
        make()


# Whole runs.


@pytest.fixture
def config(tmp_path: Path) -> EmbedWordsConfig:
    (tmp_path / "text.txt").write_text("".join(" ".join(line) + "\n" for line in LINES))
    return EmbedWordsConfig(
        run=str(tmp_path / "run"),
        data=WordText((str(tmp_path / "text.txt"),), min_count=2),
        model=Word2VecConfig(width=11, window=3, sample=0.0),
        batches=BlockConfig(words=97, deterministic=True),
        training=TrainingConfig(epochs=2.0, evaluate_every=11, log_every=1, metric="latest", threads=1, device="cpu"),
    )


def stopping(step: int) -> Listener:
    return Listener(lambda number: signal.raise_signal(signal.SIGTERM) if number == step else None)


@pytest.mark.parametrize(
    ("step", "options"),
    [(1, {}), (11, {}), (35, {"method": "cbow", "negative": 0}), (47, {"shortest": 2, "longest": 2, "buckets": 17})],
    ids=str,
)
def test_a_training_that_was_stopped_ends_with_the_same_bits(config, tmp_path, options, step):
    straight = replace(config, model=replace(config.model, **options))
    stopped = replace(straight, run=str(tmp_path / "stopped"))
    train_run(straight, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, stopping(step))
    train_run(stopped, Listener())
    ours, theirs = left_behind(stopped.run), left_behind(straight.run)
    assert ours[0] > 47
    assert ours[:2] == theirs[:2]
    assert ours[3] == theirs[3]
    assert [row for row in ours[2] if row["kind"] == "train"] == [row for row in theirs[2] if row["kind"] == "train"]


@pytest.mark.parametrize("step", [8, 11])
def test_a_training_that_was_stopped_tells_the_same_of_itself(config, tmp_path, step):
    """Also what is measured at an evaluation, when the signal came before it or in the midst of its step."""
    stopped = replace(config, run=str(tmp_path / "stopped"))
    train_run(config, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, stopping(step))
    train_run(stopped, Listener())
    assert left_behind(stopped.run)[2] == left_behind(config.run)[2]


def test_a_second_training_of_a_run_changes_nothing(config):
    train_run(config, Listener())
    before = left_behind(config.run)
    train_run(config, Listener())
    assert left_behind(config.run) == before


def test_a_run_gives_the_vectors_of_its_tables(config):
    for options in ({}, {"shortest": 2, "longest": 3, "buckets": 17}):
        own = replace(config, run=config.run + str(len(options)), model=replace(config.model, **options))
        run = train_run(own, Listener())
        table = load_file(run.best(pytest.fail).path / "model.safetensors")["input"]
        vectors = load_words(run.path)
        words = vectors.vocabulary.words
        assert words == VOCABULARY.words
        starts, rows = rows_of_words(words, own.model)
        expected = [table[rows[a:b]].mean(0) for a, b in pairwise(starts)]
        np.testing.assert_allclose(vectors.vectors, expected, rtol=1e-5, atol=1e-7)
        assert vectors.similar(["a1"], 1)[0][0][0] == "a"
        assert (vectors.buckets is None) == (not options)


def test_a_vocabulary_that_does_not_fit_the_vectors_is_refused(config):
    """Cut off at the end of a line, it is a vocabulary, but not that of the run."""
    run = train_run(config, Listener())
    path = run.path / "vocabulary.tsv"
    lines = path.read_text().split("\n")
    path.write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    with pytest.raises(RunError):
        load_words(run.path).similar(["of"])


def test_no_damaged_vectors_are_used(config):
    run = train_run(config, Listener())
    for checkpoint in run.checkpoints():
        damage(checkpoint.weights)
    tokenizer = train_tokenizer(WordLevel(), [" ".join(line) for line in LINES])
    table = TokenEmbedder(tokenizer.vocab_size, 11, 11)
    for take in (
        lambda: load_words(run.path),
        lambda: take_vectors(EmbedderConfig(str(run.path)), table, tokenizer, Listener()),
    ):
        with pytest.raises(RunError, match="no checkpoint is undamaged"):
            take()


def test_a_training_that_diverges_saves_nothing(config):
    own = replace(config, optimizer=SGD(lr=1e3))
    with pytest.raises(DivergedError):
        train_run(own, Listener())
    assert Run.open(own.run).checkpoints() == []


def test_a_text_of_one_word(config, tmp_path):
    (tmp_path / "one.txt").write_text("a a a\na\n")
    for negative in (0, 5):
        own = replace(
            config,
            run=f"{config.run}{negative}",
            data=WordText((str(tmp_path / "one.txt"),), min_count=1),
            model=Word2VecConfig(width=3, negative=negative),
        )
        assert load_words(train_run(own, Listener()).path).similar(["a"]) == []


@pytest.mark.parametrize("change", [{"metric": "loss"}, {"average": "last"}, {"ema": 0.9}, {"device": "auto"}], ids=str)
def test_what_word_vectors_do_not_have(config, change):
    with pytest.raises(ValueError, match="word vectors"):
        replace(config, training=replace(config.training, **change))
