"""seqloom eval."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Overrides, Quiet, print_json, print_table, verbosity

_SHOWN_LABELS = 12
Test = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, help="Source and reference file, or one file of pairs; or texts."),
]


def evaluate(
    run: str,
    /,
    *overrides: Overrides,
    test: Test = (),
    name: str = "",
    choices: str = "",
    shots: int = 0,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Score a run on a test set: BLEU, chrF, exact match, and by source length; perplexity of a language model;
    analogies and similarity lists for word vectors; accuracy, F1, correlation, confusion and calibration of labels.

    Without --test on the test data of its config. Decoding options as config keys: --decoding.beam 5; of a language
    model how far apart its windows are: --batches.stride 64. The result is saved as eval/NAME.json in the run.

    Args:
        choices: questions for a language model, which chooses the likeliest answer: JSON lines of
            {"context": "...", "choices": ["...", "..."], "answer": 0}.
        shots: how many of these, the first, stand solved before each of the others.
    """
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.evaluate import evaluate_choices, evaluate_run

    keep_freed_memory()
    reporter = Reporter(verbosity(quiet, False))
    if choices:
        scores = evaluate_choices(run, choices, shots, name, reporter)
    else:
        scores = evaluate_run(run, test, name, overrides, reporter)
    if json:
        print_json(scores)
    else:
        show_scores(scores)


def show_scores(scores: dict[str, Any]) -> None:
    """The scores as tables."""
    if "questions" in scores:
        rows: list[tuple[str, float, str]] = [
            (
                "accuracy, %",
                scores["accuracy"],
                f"of {scores['questions']:,} questions after {scores['shots']} examples",
            ),
            ("by byte, %", scores["accuracy_by_byte"], "each choice's log-probability divided by its length"),
            ("standard error, %", scores["standard_error"], "of the accuracy"),
            ("by chance, %", scores["by_chance"], "what guessing gives"),
        ]
        print_table(scores["test"], ("score", "value", "what"), rows)
        return
    title = f"{scores['test']} in {scores['seconds']:.1f} s"
    if "lists" in scores:
        for found in scores["lists"]:
            _show_list(found)
        return
    if "bits_per_byte" in scores:
        print_table(title, ("score", "value", "what"), _of_a_text(scores))
        return
    if "examples" in scores or "accuracy" in scores:
        _show_reading(title, scores)
        return
    rows = [("BLEU", scores["bleu"], scores["signature"])]
    rows.append(("BLEU, lowercased", scores["bleu_lowercased"], scores["signature_lowercased"]))
    if "bleu_moses" in scores:
        rows.append(("BLEU, Moses tokens, lowercased", scores["bleu_moses"], scores["moses_signature"]))
    rows.append(("chrF", scores["chrf"], scores["chrf_signature"]))
    rows.append(("exact match, %", scores["exact_match"], f"{scores['sentences']} sentences"))
    rows.append(("perplexity", scores["perplexity"], "of the references, a word of the tokenizer"))
    rows.append(("distinct-1, %", scores["distinct_1"], "different words of all translations"))
    rows.append(("distinct-2, %", scores["distinct_2"], "different pairs of words"))
    print_table(title, ("score", "value", "what"), rows)
    lengths = [
        (f"{r['from']} to {r['below'] - 1}" if r["below"] else f"{r['from']} and more", r["sentences"], r["bleu"],
         r["exact_match"])
        for r in scores["by_length"]
    ]  # fmt: skip
    print_table("by words of the source", ("words", "sentences", "BLEU", "exact match, %"), lengths)
    if scores["by_kind"]:
        kinds = [(r["kind"], r["sentences"], r["bleu"], r["exact_match"]) for r in scores["by_kind"]]
        print_table("by kind", ("kind", "sentences", "BLEU", "exact match, %"), kinds)


def _show_list(found: dict[str, Any]) -> None:
    if found["kind"] == "similarity":
        row = (found["pairs"], found["known"], found["spearman"])
        print_table(found["file"], ("pairs", "known", "Spearman, %"), [row])
        return
    rows = [(r["section"], r["asked"], r["known"], r["right"], r["accuracy"]) for r in found["sections"]]
    title = f"{found['file']}, among the {found['restrict']:,} most frequent words"
    print_table(title, ("section", "questions", "known", "right", "%"), rows)


_NAMES = {
    "accuracy": "accuracy, %",
    "majority": "accuracy of the commonest label, %",
    "f1": "F1, %",
    "macro_f1": "F1, mean of all labels, %",
    "matthews": "Matthews correlation, %",
    "exact_match": "exact match, %",
    "pearson": "Pearson, %",
    "spearman": "Spearman, %",
    "calibration_error": "calibration error, %",
    "rmse": "root of the mean squared error",
    "rmse_of_mean": "the same of the mean alone",
}


def _show_reading(title: str, scores: dict[str, Any]) -> None:
    values = {k: v for k, v in scores.items() if isinstance(v, float) and k != "seconds"}
    ranked = sorted(values, key=lambda k: [*_NAMES, *values].index(k))
    notes = {"f1": f"of {scores['f1_of']}" if "f1_of" in scores else ""}
    rows = [(_NAMES.get(k, k.replace("_", " ")), values[k], notes.get(k, "")) for k in ranked]
    unit = "examples" if "examples" in scores else "words"
    print_table(f"{title}, {scores[unit]:,} {unit}", ("score", "value", "what"), rows)
    if "confusion" in scores and len(scores["labels"]) <= _SHOWN_LABELS:
        table = [(name, *row) for name, row in zip(scores["labels"], scores["confusion"], strict=True)]
        print_table("confusion", ("true \\ said", *scores["labels"]), table)
    if "reliability" in scores:
        bins = [(row["confidence"], row["accuracy"], row["examples"]) for row in scores["reliability"]]
        print_table("by confidence", ("confidence, %", "right, %", "examples"), bins)


def _of_a_text(scores: dict[str, Any]) -> list[tuple[str, float, str]]:
    seen = "its state goes on" if scores["context"] is None else "conversations are read whole"
    if scores["stride"]:
        seen = f"windows of {scores['context']}, {scores['stride']} apart"
    return [
        ("perplexity", scores["perplexity"], f"of {scores['tokens']:,} words of the tokenizer; {seen}"),
        (
            "perplexity by words",
            scores["word_perplexity"],
            f"of {scores['words']:,} words and ends of lines",
        ),
        ("bits a character", scores["bits_per_character"], f"of {scores['characters']:,} characters"),
        ("bits a byte", scores["bits_per_byte"], f"of {scores['bytes']:,} bytes"),
        ("unknown, %", 100 * scores["unknown"] / scores["tokens"], "words predicted as <unk> only: not comparable"),
    ]
