"""seqloom lineage."""

from __future__ import annotations

from seqloom.cli.common import AsJson, Overrides, Quiet, Verbose, print_json, verbosity


def lineage(
    config: str = "", /, *overrides: Overrides, quiet: Quiet = False, verbose: Verbose = False, json: AsJson = False
) -> None:
    """Train a ladder of members on one data set with the same budget, and put them side by side.

    Each table [members.NAME] of the config is a member; without one: LSTM and GRU with a context vector, GRU with
    attention, convolutional, Transformer. Without a config on the demo's phrases. The same command again resumes.
    Config keys on the command line are for all members.
    """
    from seqloom.cli.compare import show_comparison
    from seqloom.tasks.lineage import read_members, train_lineage
    from seqloom.tasks.session import keep_freed_memory
    from seqloom.training.log import Reporter

    keep_freed_memory()
    if config.startswith("--"):
        config, overrides = "", (config, *overrides)
    result = train_lineage(read_members(config, overrides), Reporter(verbosity(quiet, verbose)))
    if json:
        print_json(result)
    else:
        show_comparison(result)
