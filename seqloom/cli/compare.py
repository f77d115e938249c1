"""seqloom compare."""

from __future__ import annotations

from typing import Any

from seqloom.cli.common import PRINTING, Printing, print_result, print_tables
from seqloom.cli.evaluate import Test


def compare(*runs: str, test: Test = (), to: str = "runs/compare", printing: Printing = PRINTING) -> None:
    """Compare finished runs on one test set; the first is the baseline.

    Shows scores with confidence intervals, learning curves and costs; for translations also scores by sentence length
    and word frequency, and the phrases and sentences that differ most.

    Args:
        runs: The run directories.
        to: The folder for compare.html and compare.json.
    """
    from seqloom.workflows.compare import compare_runs

    print_result(compare_runs(runs, to, printing.reporter, test), printing.json, show_comparison)


def show_comparison(result: dict[str, Any]) -> None:
    """Prints the comparison as tables."""
    from seqloom.inspection.comparison import comparison_tables

    print_tables(comparison_tables(result))
