"""seqloom verify."""

from __future__ import annotations

import sys

from seqloom.cli.common import PRINTING, Overrides, Printing, print_result, print_table


def verify(recipe: str, /, *overrides: Overrides, printing: Printing = PRINTING) -> None:
    """Train a recipe, and check that it reaches the results in its [accept] table.

    A finished run is not trained again. Each member of a ladder is checked. Exits with 1 if a result is not reached.

    Args:
        recipe: The config file with an [accept] table.
    """
    from seqloom.workflows.verify import verify_recipe

    verdicts = verify_recipe(recipe, overrides, printing.reporter)
    columns = ("member", "metric", "accept", "measured")
    rows = [[*(v[key] for key in columns), "reached" if v["reached"] else "NOT reached"] for v in verdicts]
    print_result(verdicts, printing.json, lambda _: print_table(recipe, (*columns, "verdict"), rows))
    if not all(v["reached"] for v in verdicts):
        sys.exit(1)
