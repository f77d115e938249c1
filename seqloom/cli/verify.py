"""seqloom verify."""

from __future__ import annotations

import sys

from seqloom.cli.common import AsJson, Overrides, Quiet, make_reporter, print_result, print_table


def verify(recipe: str, /, *overrides: Overrides, quiet: Quiet = False, json: AsJson = False) -> None:
    """Train a recipe, and check that it reaches the results in its [accept] table.

    A finished run is not trained again. Each member of a ladder is checked. Exits with 1 if a result is not reached.

    Args:
        recipe: The config file with an [accept] table.
    """
    from seqloom.workflows.verify import verify_recipe

    verdicts = verify_recipe(recipe, overrides, make_reporter(quiet))
    columns = ("member", "metric", "accept", "measured")
    rows = [[*(v[key] for key in columns), "reached" if v["reached"] else "NOT reached"] for v in verdicts]
    print_result(verdicts, json, lambda _: print_table(recipe, (*columns, "verdict"), rows))
    if not all(v["reached"] for v in verdicts):
        sys.exit(1)
