"""seqloom microscope."""

from __future__ import annotations

from seqloom.cli.common import PRINTING, Count, Printing, print_result, print_tables


def microscope(
    *runs: str,
    to: str = "runs/microscope",
    sentences: Count = 64,
    untrained: bool = False,
    printing: Printing = PRINTING,
) -> None:
    """Measure how far back translation models remember.

    Measures the gradient of each state with respect to earlier tokens and states, the gates of recurrent cells and the
    entropy of attention, for each run on its own validation data.

    Args:
        runs: The run directories.
        to: The folder for microscope.html and microscope.json.
        sentences: The number of validation sentences.
        untrained: Also measure each run with its initial weights.
    """
    from seqloom.inspection.microscope_page import reach_table
    from seqloom.workflows.microscope import examine_runs

    result = examine_runs(runs, to, printing.reporter, sentences, untrained)
    print_result(result, printing.json, lambda result: print_tables([reach_table(result)]))
