"""seqloom export."""

from __future__ import annotations

from typing import Literal

from seqloom.cli.common import AsJson, Quiet, make_reporter
from seqloom.cli.import_ import show_parity


def export(
    run: str,
    out: str,
    /,
    *,
    to: Literal["hf", "gguf", "ctranslate2", "onnx", "peft"],
    precision: Literal["fp32", "bf16", "fp16", "q8_0"] = "fp32",
    base: str = "",
    verify: bool = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Export a run to Hugging Face, llama.cpp, CTranslate2 or ONNX (encoder models); one with LoRA to peft.

    Args:
        run: The run directory.
        out: The directory or, for GGUF and ONNX, the file to write.
        to: The format.
        precision: The type of the weights; fp16 and q8_0 (8 bits) for GGUF, bf16 for it and Hugging Face.
        base: For peft, the Hugging Face directory of the run that this one started from, unless that was imported.
        verify: Load the export in its own program and compare the results; exits with 1 if they differ.
    """
    from seqloom.run import Run
    from seqloom.workflows.export import export_run

    reporter, opened = make_reporter(quiet), Run.open(run)
    export_run(opened, to, out, reporter, precision, base)
    if verify:
        from seqloom.workflows.parity import compare_export

        show_parity(compare_export(opened, to, out, reporter, rounded=precision != "fp32"), json)
