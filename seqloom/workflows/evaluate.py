"""The scores of a run on a test set, saved in the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Literal

from seqloom import config as configs
from seqloom.data.formats.lines import content_digests
from seqloom.decoding.config import EngineName
from seqloom.errors import UsageError
from seqloom.files import Json, short_digest, write_sealed
from seqloom.run import Run
from seqloom.tasks.building import load_run, with_engine
from seqloom.tasks.language_model.choices import score_choices
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.alignments import score_alignments
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import RunConfig, config_of
from seqloom.training.log import Reporter

_LONGEST_TITLE = 200  # bytes, of the name of a file
_INT8 = ".int8"  # behind the name of what was measured in 8 bits


def title_of(name: str, test: Sequence[str], default: str = "test", mark: str = "") -> str:
    """The name of an evaluation and its file in eval/: `name`, else that of the first test file, else `default`, and
    `mark` behind these two.

    Raises UsageError for a name that is empty or a path.
    """
    title = (name or (Path(test[0]).name.lstrip(".").split(".")[0] if test else default)).strip()
    wrong = not title or title[0] == "." or any(c in "/\\" or not c.isprintable() for c in title)
    if wrong or len(title.encode()) > _LONGEST_TITLE:
        problem = f"an evaluation cannot be called {title[:80]!r}"
        raise UsageError(problem, where="--name", cure="give a short name that is not a path: --name test")
    return title if name else title + mark


def evaluate_run(
    path: str | Path | Run,
    test: Sequence[str],
    name: str,
    options: Sequence[str],
    reporter: Reporter,
    task: str = "",
    engine: EngineName = "torch",
    *,
    int8: bool = False,
) -> Json:
    """Scores a run on test data, and saves the scores and predictions of its task as eval/NAME.json.

    Args:
        path: the run, or its directory.
        test: files like those it was trained on; empty = the test data of its config.
        name: what to save it as; by default the name of the first file, or "test", behind that of a task.
        options: decoding options, as on the command line, and those of how test files are read: --data.text COLUMN.
        reporter: prints progress.
        task: which of several tasks; "" = all.
        engine: what decodes translations; see tasks/engine.py.
        int8: whether large matrices are rounded to 8 bits.
    """
    run = Run.open(path)
    config = config_of(run, RunConfig, task)
    title = title_of(name, test, config.title, _INT8 * int8)
    title = f"{task}.{title}" if task and not name else title  # each task has its own
    reading, options = _of_data(options)
    if reading:
        config = configs.build(type(config), configs.merge(configs.tree_of(config), configs.read_overrides(reading)))
    precision = "int8" if int8 else config.measured_in
    loaded = load_run(run, RunConfig, precision=precision, say=reporter.warn, task=task)
    predictor = replace(loaded, config=config).predictor()
    if isinstance(predictor, Translator):
        predictor = with_engine(loaded, predictor, engine, int8, reporter.warn)
    elif engine == "ctranslate2":
        problem = "our own engine measures this run; CTranslate2 decodes for the scores of translations alone"
        raise UsageError(problem, where=str(run.path), cure="leave --engine out")
    scores = config.score(predictor, test, options, reporter)
    return saved(run, title, scores, basis(run, config, test, [*options, *["--int8"] * int8], reporter), reporter)


def evaluated(run: Run, test: Sequence[str], reporter: Reporter) -> Json:
    """The scores of a run on a test set: the saved ones if nothing has changed since, else new ones."""
    title = title_of("", test)
    scores = run.usable_evaluation(title, reporter.warn)
    if scores and scores["basis"] == basis(run, config_of(run, RunConfig), test, (), reporter)["basis"]:
        return scores
    reporter.say(f"evaluating {run.path}")
    return evaluate_run(run, test, title, (), reporter)


def _of_data(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of the data, and the others."""
    data: list[str] = []
    rest: list[str] = []
    part = rest
    for word in options:
        if word.startswith("--"):
            part = data if word.startswith("--data.") else rest
        part.append(word)
    return data, rest


def evaluate_choices(
    path: str | Path, file: str, shots: int, name: str, reporter: Reporter, task: str = "", *, int8: bool = False
) -> Json:
    """Scores a language model on multiple-choice questions, and saves the result as eval/NAME.json, by default
    that of the file with ".K-shot" after K examples; see `score_choices`, and for `task` and `int8` `evaluate_run`."""
    title = title_of(name, (file,), mark=f".{shots}-shot" * bool(shots) + _INT8 * int8)
    precision: Literal["int8", "fp32"] = "int8" if int8 else "fp32"
    loaded = load_run(path, LanguageModelConfig, precision=precision, say=reporter.warn, task=task)
    scores = score_choices(loaded.predictor(), file, shots, reporter)
    options = ["--choices", "--shots", str(shots), *["--int8"] * int8]
    return saved(loaded.run, title, scores, basis(loaded.run, loaded.config, [file], options, reporter), reporter)


def evaluate_alignments(
    path: str | Path, test: Sequence[str], file: str, name: str, reporter: Reporter, task: str = ""
) -> Json:
    """Scores the word alignments of a translation model, and saves the result as eval/NAME.json, by default that of the
    file with ".aer"; see `score_alignments`."""
    title = title_of(name, (file,), mark=".aer")
    loaded = load_run(path, TranslateConfig, precision="fp32", say=reporter.warn, task=task)
    scores = score_alignments(loaded.config, loaded.predictor(), test, file, reporter)
    files = [*(test or getattr(loaded.config.data, "test", ())), file]
    return saved(
        loaded.run, title, scores, basis(loaded.run, loaded.config, files, ["--alignments"], reporter), reporter
    )


def basis(run: Run, config: RunConfig, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
    """What the scores of an evaluation depend on: the checkpoint, the options, and the content of the test data."""
    best, parts = run.best(reporter.warn), [*config.parts.values()] or [config]
    sources = [getattr(part, "data", None) for part in parts]
    keys = ("test", "valid", "train")
    own = [next((paths for key in keys if (paths := getattr(data, key, ()))), ()) for data in sources]
    files = test or [path for paths in own for path in paths]
    decodings = [getattr(part, "decoding", None) for part in parts]
    trees = [configs.tree_of(part) for part in (*sources, *decodings) if is_dataclass(part)]
    digest = short_digest([best.digest(), *options, trees, content_digests(files)])
    return {"checkpoint": best.path.name, "weights": best.digest(), "files": list(test), "basis": digest}


def saved(run: Run, title: str, scores: Json, on: Json, reporter: Reporter) -> Json:
    """Saves scores with their basis as an evaluation of a run."""
    result, path = {"test": title, **scores, **on}, run.evaluation_path(title)
    before = run.usable_evaluation(title, reporter.warn).get("files")
    if before not in (None, on["files"]):
        files = " ".join(before) or "the config's test data"
        reporter.warn(f"{path} had the scores of {files}, which are replaced; --name keeps both")
    write_sealed(path, result)
    return result
