"""seqloom export."""

from __future__ import annotations

from typing import Literal

from seqloom.cli.common import PRINTING, Printing
from seqloom.cli.import_ import refuse_verify, show_parity


def export(
    run: str,
    out: str,
    /,
    *,
    to: Literal["hf", "gguf", "ctranslate2", "onnx", "peft", "adapter"],
    precision: Literal["fp32", "bf16", "fp16", "q8_0"] = "fp32",
    base: str = "",
    verify: bool = False,
    printing: Printing = PRINTING,
) -> None:
    """Export a run to Hugging Face, llama.cpp, CTranslate2 or ONNX (encoder models); one with LoRA to peft.

    `--to adapter` writes what an adapted run learned to a .safetensors file of its own, for `seqloom import`.

    Args:
        run: The run directory.
        out: The directory or, for GGUF, ONNX and adapter, the file to write.
        to: The format.
        precision: The type of the weights; fp16 and q8_0 (8 bits) for GGUF, bf16 for it and Hugging Face.
        base: For peft, the Hugging Face directory of the run that this one started from, unless that was imported; for
            adapter, that run, if it is elsewhere now.
        verify: Load the export in its own program and compare the results; exits with 1 if they differ.
    """
    from seqloom.run import Run
    from seqloom.workflows.export import export_run

    if verify and to == "adapter":
        refuse_verify()
    reporter, opened = printing.reporter, Run.open(run)
    export_run(opened, to, out, reporter, precision, base)
    if verify:
        from seqloom.workflows.parity import compare_export

        show_parity(compare_export(opened, to, out, reporter, rounded=precision != "fp32"), printing.json)
