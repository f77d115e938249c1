"""seqloom compare."""

from __future__ import annotations

from typing import Any

from seqloom.cli.common import AsJson, Quiet, make_reporter, print_result, print_table
from seqloom.cli.evaluate import Test, length_names
from seqloom.measures import MEASURES, count_of


def compare(*runs: str, test: Test = (), to: str = "runs/compare", quiet: Quiet = False, json: AsJson = False) -> None:
    """Compare finished runs on one test set; the first is the baseline.

    Shows scores with confidence intervals, learning curves and costs; for translations also scores by sentence length
    and word frequency, and the phrases and sentences that differ most.

    Args:
        runs: The run directories.
        to: The folder for compare.html and compare.json.
    """
    from seqloom.workflows.compare import compare_runs

    print_result(compare_runs(runs, to, make_reporter(quiet), test), json, show_comparison)


def show_comparison(result: dict[str, Any]) -> None:
    """Prints the comparison as tables."""
    count = count_of(result)
    title = f"{result['test']}, {count[0]:,} {count[1]}" if count else str(result["test"])
    reach = f"to {_score(result['metric'], result['reached'])}"
    (_show_translations if "by_frequency" in result else _show_scores)(result, title, reach)


def _show_scores(result: dict[str, Any], title: str, reach: str) -> None:
    keys = list(dict.fromkeys(key for row in result["systems"] for key in row["scores"]))
    rows = [
        (
            r["name"],
            *(_with_interval(key, r["scores"].get(key), r["intervals"].get(key)) for key in keys),
            *_costs(r),
            _fixed(r["gigabytes"], 1),
        )
        for r in result["systems"]
    ]
    floor = f", most frequent label {result['majority']:.1f} %" if "majority" in result else ""
    names = (MEASURES[key].name for key in keys)
    print_table(title + floor, ("", *names, "M par.", "min", reach, "GB"), rows)


def _with_interval(key: str, value: float | None, interval: float | None) -> str:
    return _score(key, value) if interval is None else f"{value:.1f}±{interval:.1f}"


def _score(key: str, value: float | None) -> str:
    return "-" if value is None else MEASURES[key].shown(value)


def _bleu(row: dict[str, Any]) -> str:
    return f"{row['bleu']:.1f}±{row['bleu_interval']:.1f}"


def _costs(row: dict[str, Any]) -> tuple[str, ...]:
    parameters = _fixed(row["parameters"] and row["parameters"] / 1e6, 1)
    if row["learned"]:
        parameters = f"{row['learned'] / 1e6:.2f} of {parameters}"
    return parameters, *(_fixed(value, 1) for value in (row["minutes"], row["minutes_to_reach"]))


def _show_translations(result: dict[str, Any], title: str, reach: str) -> None:
    rows = [
        (
            r["name"],
            _bleu(r),
            r["p"],
            f"{r['chrf']:.1f}",
            *_costs(r),
            _fixed(r["tokens_per_second"]),
            _fixed(r["sentences_per_second"]),
            _fixed(r["gigabytes"], 1),
        )
        for r in result["systems"]
    ]
    bleu, chrf, exact = (MEASURES[key].name for key in ("bleu", "chrf", "exact_match"))
    print_table(title, ("", bleu, "p", chrf, "M par.", "min", reach, "tokens/s", "sent/s", "GB"), rows)
    names, groups = [r["name"] for r in result["systems"]], result["by_length"]
    lengths = [
        (name, r["sentences"], *map(_bleu, r["systems"])) for name, r in zip(length_names(groups), groups, strict=True)
    ]
    print_table(f"{bleu} by words of the source", ("words", "sentences", *names), lengths)
    if result["gains"]:
        gains = [(r["name"], f"{r['short']:+.1f}", f"{r['long']:+.1f}") for r in result["gains"]]
        print_table(f"{bleu} gain over {names[0]}", ("", "below 10 words", "20 and more"), gains)
    if result["by_kind"]:
        kinds = [(r["kind"], r["sentences"], *(r["exact_match"][name] for name in names)) for r in result["by_kind"]]
        print_table(f"{exact}, by kind", ("kind", "sentences", *names), kinds)


def _fixed(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
