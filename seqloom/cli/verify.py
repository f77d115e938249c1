"""seqloom verify."""

from __future__ import annotations

import sys

from seqloom.cli.common import AsJson, Overrides, Quiet, print_json, print_table, verbosity


def verify(recipe: str, /, *overrides: Overrides, quiet: Quiet = False, json: AsJson = False) -> None:
    """Train a recipe (or take its finished run), score it, and check that it reaches its [accept] band.

    Of a ladder, each member. Exits with 1 if one does not.
    """
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.verify import verify_recipe

    keep_freed_memory()
    verdicts = verify_recipe(recipe, overrides, Reporter(verbosity(quiet, False)))
    if json:
        print_json(verdicts)
    else:
        rows = [
            (v["member"], v["metric"], v["accept"], v["measured"], "reached" if v["reached"] else "NOT reached")
            for v in verdicts
        ]
        print_table(recipe, ("member", "metric", "accept", "measured", "verdict"), rows)
    if not all(v["reached"] for v in verdicts):
        sys.exit(1)
