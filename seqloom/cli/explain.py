"""seqloom explain."""

from __future__ import annotations

from seqloom.cli.common import Quiet, Task, make_reporter


def explain(run: str, text: str, /, *, to: str = "runs/explain.html", task: Task = "", quiet: Quiet = False) -> None:
    """Explain what a run does with one input, in one HTML file that opens without a network.

    Shows what is predicted and what counted for it, attention, each layer with its numbers, and the search.

    Args:
        run: The run directory.
        text: The text; two with a tab between them for a run that reads two; the path of an image, with
            a tab and the text beside it for a run that reads both; a file of series, or FILE:NUMBER for one of them.
        to: The file.
    """
    from seqloom.workflows.explain import explain as explain_input

    print(explain_input(run, text, to, make_reporter(quiet), task))
