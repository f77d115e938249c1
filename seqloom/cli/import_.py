"""seqloom import."""

from __future__ import annotations

import sys

from seqloom.cli.common import AsJson, Quiet, print_json, print_table, verbosity


def import_(
    source: str, run: str, /, *, verify: bool = False, task: str = "", quiet: Quiet = False, json: AsJson = False
) -> None:
    """Make a run of a published checkpoint: GPT-2, Llama, Mistral, Qwen, BERT and its kin, ViT, Marian, Pegasus, T5.

    SOURCE is a directory with config.json and *.safetensors, or a name on the Hugging Face hub. --verify compares
    what it computes with transformers, and exits with 1 if it differs. --task: what the run is for, if not what its
    architecture says.
    """
    from seqloom.training.log import Reporter
    from seqloom.workflows.import_ import import_run

    reporter = Reporter(verbosity(quiet, False))
    made = import_run(source, run, reporter, task)
    if verify:
        from seqloom.workflows.parity import compare_with_transformers

        show_parity(compare_with_transformers(made, source, reporter), json)


def show_parity(found: dict[str, object], json: bool, most: float = 1e-3) -> None:
    """The differences found, as a table or JSON; exits with 1 if one is more than `most`, or words differ."""
    if json:
        print_json(found)
    else:
        rows = [(name, f"{value:.1e}" if isinstance(value, float) else value) for name, value in found.items()]
        print_table("verified", ("what", "found"), rows)
    if any(not value <= most if isinstance(value, float) else value == "DIFFERENT" for value in found.values()):
        sys.exit(1)
