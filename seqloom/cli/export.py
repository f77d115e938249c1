"""seqloom export."""

from __future__ import annotations

from typing import Literal

from seqloom.cli.common import AsJson, Quiet, verbosity
from seqloom.cli.import_ import show_parity


def export(
    run: str,
    out: str,
    /,
    *,
    to: Literal["hf", "ctranslate2", "onnx"],
    precision: Literal["fp32", "bf16"] = "fp32",
    verify: bool = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write a run for other programs: --to hf DIR (Hugging Face), ctranslate2 DIR, or onnx FILE (models that read).

    --verify loads it there, compares, and exits with 1 if it differs. --precision bf16 halves a directory of
    Hugging Face's.
    """
    from seqloom.training.log import Reporter
    from seqloom.workflows.export import export_run

    reporter = Reporter(verbosity(quiet, False))
    export_run(run, to, out, reporter, precision)
    if verify:
        from seqloom.workflows.parity import compare_export

        show_parity(compare_export(run, to, out, reporter), json, 1e-3 if precision == "fp32" else 1.0)
