"""seqloom lineage."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Overrides, Quiet, Verbose, print_json, print_table, verbosity
from seqloom.measures import MEASURES

Seeds = Annotated[tuple[int, ...], Parameter(consume_multiple=True, help="The ladder once for each, e.g. 1 2 3.")]


def lineage(
    config: str = "",
    /,
    *overrides: Overrides,
    seeds: Seeds = (),
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: AsJson = False,
) -> None:
    """Train a ladder of members on one data set with the same budget, and put them side by side.

    Each table [members.NAME] of the config is a member; without one: LSTM and GRU with a context vector, GRU with
    attention, convolutional, Transformer. Without a config on the demo's phrases. The same command again resumes.
    Config keys on the command line are for all members. With --seeds: mean and standard deviation over the seeds.
    """
    from seqloom.cli.compare import show_comparison
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.lineage import read_members, train_lineage, train_seeds

    keep_freed_memory()
    if config.startswith("--"):
        config, overrides = "", (config, *overrides)
    reporter = Reporter(verbosity(quiet, verbose))
    if seeds:
        result = train_seeds(config, overrides, seeds, reporter)
    else:
        result = train_lineage(read_members(config, overrides), reporter)
    if json:
        print_json(result)
    elif seeds:
        _show_seeds(result)
    else:
        show_comparison(result)


def _show_seeds(result: dict[str, Any]) -> None:
    keys = list(dict.fromkeys(key for row in result["systems"] for key in row["scores"]))
    rows = [(row["name"], *(_spread(key, row["scores"].get(key)) for key in keys)) for row in result["systems"]]
    seeds = ", ".join(map(str, result["seeds"]))
    title = f"{result['test']}: mean ± standard deviation over seeds {seeds}"
    print_table(title, ("", *(MEASURES[key].name for key in keys)), rows)


def _spread(key: str, found: dict[str, Any] | None) -> str:
    return "-" if found is None else "±".join(MEASURES[key].shown(found[part]) for part in ("mean", "deviation"))
