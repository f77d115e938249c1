"""seqloom lineage."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import TRAINING_PRINTING, Overrides, TrainingPrinting, bounded, print_result, print_table
from seqloom.limits import Seed
from seqloom.measures import MEASURES


def lineage(
    config: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    /,
    *overrides: Overrides,
    seeds: Annotated[tuple[int, ...], bounded(Seed), Parameter(consume_multiple=True)] = (),
    printing: TrainingPrinting = TRAINING_PRINTING,
) -> None:
    """Train several models on the same data with the same budget, and compare them.

    Each table [members.NAME] of the config is a member of the ladder. Without such tables the members are LSTM and GRU
    with a context vector, GRU with attention, a convolutional model and a Transformer. Config keys on the command line
    apply to all members. The same command again resumes.

    Args:
        config: The config file; by default, the data are the phrases of the demo.
        seeds: Train the ladder once per seed, and print mean and standard deviation (e.g. --seeds 1 2 3).
    """
    from seqloom.cli.compare import show_comparison
    from seqloom.workflows.lineage import read_members, train_lineage, train_seeds

    if config.startswith("--"):
        config, overrides = "", (config, *overrides)
    reporter = printing.reporter
    if seeds:
        print_result(train_seeds(config, overrides, seeds, reporter), printing.json, _show_seeds)
    else:
        print_result(train_lineage(read_members(config, overrides), reporter), printing.json, show_comparison)


def _show_seeds(result: dict[str, Any]) -> None:
    keys = list(dict.fromkeys(key for row in result["systems"] for key in row["scores"]))
    rows = [(row["name"], *(_spread(key, row["scores"].get(key)) for key in keys)) for row in result["systems"]]
    title = f"{result['test']}: mean ± standard deviation over seeds {', '.join(map(str, result['seeds']))}"
    print_table(title, ("", *(MEASURES[key].name for key in keys)), rows)


def _spread(key: str, scores: dict[str, Any] | None) -> str:
    return "-" if scores is None else "±".join(MEASURES[key].shown(scores[part]) for part in ("mean", "deviation"))
