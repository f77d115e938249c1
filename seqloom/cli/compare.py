"""seqloom compare."""

from __future__ import annotations

from typing import Any

from seqloom.cli.common import AsJson, Quiet, print_json, print_table, verbosity
from seqloom.cli.evaluate import Test
from seqloom.measures import MEASURES, count_of


def compare(*runs: str, test: Test = (), to: str = "runs/compare", quiet: Quiet = False, json: AsJson = False) -> None:
    """Put finished runs side by side on one test set; the first is what the others are tested against.

    Scores with confidence intervals, how fast each learned, and what it cost; of translations also score by length and
    by word frequency, phrases and sentences that differ. Without --test on the test data of their configs. Writes
    compare.html and compare.json into --to.
    """
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.compare import compare_runs

    keep_freed_memory()
    result = compare_runs(runs, to, Reporter(verbosity(quiet, False)), test)
    if json:
        print_json(result)
    else:
        show_comparison(result)


def show_comparison(result: dict[str, Any]) -> None:
    """The comparison as tables."""
    if result["task"] == "translate":
        _show_translations(result)
    else:
        _show_scores(result)


def _show_scores(result: dict[str, Any]) -> None:
    keys = list(dict.fromkeys(key for row in result["systems"] for key in row["scores"]))
    rows = [
        (
            r["name"],
            *(_with_interval(key, r["scores"].get(key), r["intervals"].get(key)) for key in keys),
            _told(r["parameters"] and r["parameters"] / 1e6, 1),
            _told(r["minutes"], 1),
            _told(r["minutes_to_reach"], 1),
            _told(r["gigabytes"], 1),
        )
        for r in result["systems"]
    ]
    floor = f", commonest label {result['majority']:.1f} %" if "majority" in result else ""
    names = (MEASURES[key].name for key in keys)
    print_table(f"{_tested(result)}{floor}", ("", *names, "M par.", "min", _to_reach(result), "GB"), rows)


def _with_interval(key: str, value: float | None, interval: float | None) -> str:
    return _shown(key, value) if interval is None else f"{value:.1f}±{interval:.1f}"


def _shown(key: str, value: float | None) -> str:
    return "-" if value is None else MEASURES[key].shown(value)


def _tested(result: dict[str, Any]) -> str:
    count = count_of(result)
    return f"{result['test']}, {count[0]:,} {count[1]}" if count else str(result["test"])


def _to_reach(result: dict[str, Any]) -> str:
    return f"to {_shown(result['metric'], result['reached'])}"


def _show_translations(result: dict[str, Any]) -> None:
    rows = [
        (
            r["name"],
            f"{r['bleu']:.1f}±{r['bleu_interval']:.1f}",
            r["p"],
            f"{r['chrf']:.1f}",
            _told(r["parameters"] and r["parameters"] / 1e6, 1),
            _told(r["minutes"], 1),
            _told(r["minutes_to_reach"], 1),
            _told(r["tokens_per_second"]),
            _told(r["sentences_per_second"]),
            _told(r["gigabytes"], 1),
        )
        for r in result["systems"]
    ]
    bleu, chrf, exact = (MEASURES[key].name for key in ("bleu", "chrf", "exact_match"))
    columns = ("", bleu, "p", chrf, "M par.", "min", _to_reach(result), "tokens/s", "sent/s", "GB")
    print_table(_tested(result), columns, rows)
    names = [r["name"] for r in result["systems"]]
    lengths = [
        (
            f"{r['from']} to {r['below'] - 1}" if r["below"] else f"{r['from']} and more",
            r["sentences"],
            *(f"{s['bleu']:.1f}±{s['bleu_interval']:.1f}" for s in r["systems"]),
        )
        for r in result["by_length"]
    ]
    print_table(f"{bleu} by words of the source", ("words", "sentences", *names), lengths)
    if result["gains"]:
        gains = [(r["name"], f"{r['short']:+.1f}", f"{r['long']:+.1f}") for r in result["gains"]]
        print_table(f"{bleu} above {names[0]}", ("", "below 10 words", "20 and more"), gains)
    if result["by_kind"]:
        kinds = [(r["kind"], r["sentences"], *(r["exact_match"][name] for name in names)) for r in result["by_kind"]]
        print_table(f"{exact}, by kind", ("kind", "sentences", *names), kinds)


def _told(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
