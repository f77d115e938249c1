"""seqloom import."""

from __future__ import annotations

import sys

from seqloom.cli.common import PRINTING, Printing, print_result, print_table
from seqloom.errors import UsageError


def import_(
    source: str, run: str, /, *, base: str = "", verify: bool = False, task: str = "", printing: Printing = PRINTING
) -> None:
    """Import a published checkpoint as a run.

    Supported: GPT-2, Llama, Mistral, Qwen, BERT, RoBERTa, DistilBERT, Megatron-BERT, ViT, Marian, Pegasus, T5.

    Args:
        source: A directory with config.json and *.safetensors, a GGUF file of llama.cpp, or a name on the Hugging Face
            hub; an adapter of peft (LoRA), which is merged into its base; or one of ours, a .safetensors file.
        run: The run directory to create.
        base: The base of an adapter, if it is not where the adapter says: in the same forms, or a run.
        verify: Compare the results with transformers; exits with 1 if they differ.
        task: The task of the run; by default that of the architecture.
    """
    from seqloom.workflows.import_ import import_run

    if verify and source.endswith(".safetensors"):
        refuse_verify()
    reporter = printing.reporter
    imported = import_run(source, run, reporter, task, base)
    if verify:
        from seqloom.workflows.parity import compare_with_transformers

        show_parity(compare_with_transformers(imported, source, reporter, base=base), printing.json)


def refuse_verify() -> None:
    """Raises UsageError for the verification of our own adapters, which no other program reads."""
    problem = "--verify compares with another program, which does not read an adapter of seqloom"
    raise UsageError(problem, cure="leave it out: what an adapter computes is checked whenever it is read")


def show_parity(differences: dict[str, object], json: bool) -> None:
    """Prints the differences; exits with 1 if one exceeds the tolerance, or if an answer differs."""
    from seqloom.workflows.text_parity import TOLERANCE

    rows = [(name, f"{value:.1e}" if isinstance(value, float) else value) for name, value in differences.items()]
    print_result(differences, json, lambda _: print_table("verified", ("comparison", "result"), rows))
    failed = [
        not value <= TOLERANCE if isinstance(value, float) else str(value).startswith("DIFFERENT")
        for value in differences.values()
    ]
    if any(failed):
        sys.exit(1)
