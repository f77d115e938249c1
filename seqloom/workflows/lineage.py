"""A ladder of members trained on one data set with one budget: the gain of each generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from seqloom import config as configs
from seqloom.data.batches.order import BatchConfig
from seqloom.errors import ConfigError, UsageError, nearest
from seqloom.files import Json, output_in, write_json
from seqloom.measures import measured
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Run
from seqloom.tasks import task_class, task_of
from seqloom.tasks.assets import Assets
from seqloom.tasks.building import refuse_too_large
from seqloom.tasks.seq2seq.demo import demo_config
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.training.precision import pick_device
from seqloom.workflows.compare import OUTPUTS, compare_runs
from seqloom.workflows.report import finish
from seqloom.workflows.train import train_run

_PRESETS = {
    "lstm": "small-lstm",
    "gru": "small-gru",
    "gru-attention": "small-attention",
    "convolutional": "small-conv",
    "transformer": "small",
}
LADDER: dict[str, configs.Tree] = {name: {"model": {"preset": preset}} for name, preset in _PRESETS.items()}
"""The default members: 2014 (LSTM, then GRU, with a context vector), 2015, and two of 2017."""

_DEMO_STEPS = 250
_NOT_DATA = ("run", "model", "adapt", "optimizer", "schedule", "training", "decoding", "accept")


def read_members(path: str, overrides: Sequence[str] = (), only: str = "") -> dict[str, RunConfig]:
    """The config of each member of a ladder, or of one (`only`), by name.

    The config of a member is that of the file, overridden by the table [members.NAME] and then by the command line,
    which is for all members; a member's `model` replaces the file's. A file without such tables has the members of
    LADDER. Without a file, the data are the demo's phrases.
    The run of a member is a folder of its name in `run`, by default in runs/ and the name of the file.

    Raises:
        ConfigError: an invalid config, of a member or of the file.
        UsageError: there is no such member.
    """
    tree, origin = configs.read_tree(path) if path else (_demo(), configs.Origin())
    members = tree.pop("members", LADDER)
    if not isinstance(members, Mapping) or not all(isinstance(table, Mapping) for table in members.values()):
        cure = 'for example [members.lstm] and, below it, model.preset = "small-lstm"'
        raise ConfigError("members must be tables", where=origin.where(("members",)), cure=cure)
    if (wrong := next((n for n in members if n in ("", "..") or n != Path(n).name), None)) is not None:
        problem = f"the member's name {wrong!r} is no name of a folder"
        raise ConfigError(problem, where=origin.where(("members",)), cure="choose a name without / and other than ..")
    if only and only not in members:
        raise UsageError(f"{path} has no member {only!r}", where="--member", cure=nearest(only, members))
    typed, task = configs.read_overrides(overrides), task_of(tree, origin)
    chosen: dict[str, RunConfig] = {}
    for name, table in ((only, members[only]),) if only else members.items():
        base = {key: value for key, value in tree.items() if key != "model" or key not in table}
        with _named(name):
            config = configs.build(task_class(task), configs.merge(configs.merge(base, table), typed), origin)
        folder = Path(config.run or f"runs/{Path(path).stem if path else 'lineage'}")
        chosen[name] = replace(config, run=str(folder / name))
    return chosen


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Names the member in an error about its config."""
    try:
        yield
    except UsageError as error:
        raise ConfigError(f"member {name!r}: {error.problem}", where=error.where, cure=error.cure) from None


def _refuse_too_large(members: Mapping[str, RunConfig]) -> None:
    """Raises ConfigError for a member that needs more memory than is free; data that several share are read once."""
    known: dict[str, Assets] = {}
    for name, config in members.items():
        if config.begins_with and not Run(config.begins_with).begun:
            continue  # it may start from a member that is trained before it
        with _named(name):
            run = Run(config.run)
            data = json.dumps({key: part for key, part in configs.tree_of(config).items() if key not in _NOT_DATA})
            if data not in known:
                known[data] = config.assets(Run.open(run)) if run.begun else config.prepare(Reporter(0)).assets
            refuse_too_large(config, known[data], pick_device(config.training.device))


def train_lineage(members: Mapping[str, RunConfig], reporter: Reporter) -> dict[str, Any]:
    """Trains the members one after another, or resumes where an earlier call stopped, and compares them.

    `compare_runs` writes the comparison to the folder of the runs; the first member is the baseline.
    """
    if len(members) < 2:
        raise UsageError("a lineage needs at least two members", cure="add a table [members.NAME] to the config")
    folder = Path(next(iter(members.values())).run).parent
    with output_in(folder, *OUTPUTS):  # what would be replaced is refused before hours of training
        _refuse_too_large(members)
        runs = []
        for number, (name, config) in enumerate(members.items(), start=1):
            reporter.say(f"{name}, member {number} of {len(members)}")
            run = train_run(config, reporter)
            finish(run, reporter)
            runs.append(run)
        return compare_runs(runs, folder, reporter)


def train_seeds(path: str, overrides: Sequence[str], seeds: Sequence[int], reporter: Reporter) -> Json:
    """Trains a ladder once for each seed, in folders seed-N; returns mean and deviation of each member's scores.

    Writes them to seeds.json beside these folders. The deviation is the sample standard deviation.

    Raises UsageError for fewer than two seeds, or a seed named twice.
    """
    if len({*seeds}) < max(2, len(seeds)):
        raise UsageError("needs two different seeds or more", where="--seeds", cure="for example --seeds 1 2 3")
    ladders = {seed: read_members(path, (*overrides, "--seed", str(seed))) for seed in seeds}
    folder = Path(next(iter(ladders[seeds[0]].values())).run).parent
    results = []
    for seed, members in ladders.items():
        reporter.say(f"seed {seed}, of {', '.join(map(str, seeds))}")
        moved = {name: replace(config, run=str(folder / f"seed-{seed}" / name)) for name, config in members.items()}
        results.append(train_lineage(moved, reporter))
    systems = [
        {"name": rows[0]["name"], "scores": _over_seeds([_scores(row) for row in rows])}
        for rows in zip(*(result["systems"] for result in results), strict=True)
    ]
    result: Json = {"test": results[0]["test"], "seeds": [*seeds], "systems": systems}
    with output_in(folder, "seeds.json"):
        write_json(folder / "seeds.json", result)
    return result


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in measured({**row, **row.get("scores", {})}).items() if value is not None}


def _over_seeds(rows: Sequence[Mapping[str, float]]) -> Json:
    values = {key: [row[key] for row in rows] for key in rows[0] if all(key in row for row in rows)}
    return {key: {"mean": fmean(row), "deviation": stdev(row), "values": row} for key, row in values.items()}


def _demo() -> configs.Tree:
    """The demo's config for members of one width; equal steps, so that the machine's noise decides nothing."""
    stack = TransformerConfig(layers=2, width=128, inner=512, heads=4, dropout=0.0)
    config = replace(
        demo_config("en", "de", "", 1, _DEMO_STEPS),
        model=EncoderDecoderConfig(encoder=stack, decoder=stack),
        batches=BatchConfig(tokens=1000),
    )
    tree = configs.tree_of(config)
    sizes = {half: {"width": 128, "dropout": 0.0} for half in ("encoder", "decoder")} | {"embedding": 128}
    transformer = {"transformer": {"model": tree.pop("model")}}
    members = {name: {"model": {**table["model"], **sizes}} for name, table in LADDER.items()} | transformer
    return {**tree, "run": "", "members": members}
