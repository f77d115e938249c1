"""One input of a run, explained in one file: what is predicted and why, attention, layers, and the search."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqloom.errors import UsageError
from seqloom.files import output_in, write_text
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.walk import ROLLOUT, attention_bytes, cell_of, head_of, lens, walk
from seqloom.inspection.page import Markup, data_block, document, element, packaged
from seqloom.run import Run
from seqloom.tasks.building import load_run
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.workflows.inside import attributions, inside, looked_at, medium_of, without_head
from seqloom.workflows.searched import beam_tree

VIEWS = ("task", "attention", "beam", "layers", "predictions")
_MODULES = ("chips.js", "asking.js", *(f"view-{name}.js" for name in VIEWS), "explain.js")
_SWITCHED, _LONGEST = 64, 128
"""The most heads that are switched off one by one, and the most positions of an input."""
_SAID = {
    "counted": "what counted for each prediction",
    "walk": "the numbers of each layer",
    "weights": "attention",
    "head": "each head, and what changes without it",
    "beam": "the search",
}
"""What is said when the first answer to a question comes."""
_BEAM: dict[str, Any] = {"beam": 4, "length_penalty": 1}  # as the view asks for
Answers = Iterator[tuple[str, dict[str, Any], Any]]


def explain(path: str | Path, text: str, to: str | Path, reporter: Reporter, task: str = "") -> Path:
    """Writes the file that explains what a run does with one input; returns its path.

    Args:
        path: the run.
        text: what is read: a text, two with a tab between them, the path of an image, perhaps with a tab and the text
            beside it, or the place of a signal.
        to: the file.
        reporter: prints progress.
        task: which of several tasks.

    Raises UsageError for a run that cannot be looked at, and an input that is too long.
    """
    target = Path(to)
    loaded = load_run(path, RunConfig, precision="fp32", say=reporter.warn, task=task)
    if loaded.config.parts:
        parts = ", ".join(loaded.config.parts)
        raise UsageError(f"has several tasks: {parts}", where=str(path), cure="name one: --task NAME")
    use = loaded.predictor()
    source, question = _question(use, text)
    inspected = looked_at(use, source, question.get("second", ""))
    if (longest := max(len(side.names) for side in inspected.sides.values())) > _LONGEST:
        problem = f"the input has {longest} positions, the most that are explained are {_LONGEST}"
        raise UsageError(problem, cure="shorten it")
    run, answers, said = _described(loaded.run, use), {}, set[str]()
    with output_in(target.parent, target.name):
        for name, asked, answer in _answers(use, inspected, source, question):
            if name in _SAID.keys() - said:
                reporter.say(_SAID[name])
                said |= {name}
            answers[name + _key({**question, **asked})] = answer
        reporter.say(f"{len(answers)} answers computed")
        write_text(target, _file({"run": run, "question": question, "answers": answers}))
    reporter.say(f"{target} written")
    return target


def _question(use: Any, text: str) -> tuple[str, dict[str, str]]:
    """What is read, and what the views ask about it."""
    if (medium := medium_of(use)) is not None:
        address = medium.address(medium.row(text))
        return address, {"text": beside} if (beside := address.partition("\t")[2]) else {}
    first, tab, second = text.partition("\t")
    if tab and not isinstance(use, Generator | Translator):
        return first, {"text": first, "second": second}
    return text, {"text": text}


def _described(run: Run, use: Any) -> dict[str, Any]:
    """What the views must know of the run."""
    does = "translate" if isinstance(use, Translator) else "continue" if isinstance(use, Generator) else "classify"
    return {"name": run.name, "does": does, "looks": True}


def _answers(use: Any, inspected: Inspected, source: str, question: dict[str, str]) -> Answers:
    """What the views may ask: the name of a question, what it adds to that about the input, and the answer."""
    second = question.get("second", "")
    yield "inside", {}, inside(use, source, second)
    yield "lens", {}, lens(inspected)
    for position in range(len(inspected.asked)):
        yield "counted", {"position": position}, attributions(inspected, position)
    for side in inspected.sides:
        if side != "memory":
            for position in range(len(inspected.sides[side].names)):
                yield "walk", {"side": side, "position": position}, walk(inspected, side, position)
    for layer in inspected.seen.passes:
        yield "cell", {"layer": layer}, cell_of(inspected, layer)
    groups = inspected.seen.groups()
    for title, layers in groups.items():
        for layer in (*layers, *([ROLLOUT] if title != "cross-attention" else [])):
            packed = base64.b64encode(attention_bytes(inspected, title, layer)).decode()
            yield "weights", {"kind": title, "layer": layer}, packed
    heads = [(layer, head) for layer in inspected.seen.attention for head in range(inspected.heads(layer))]
    for layer, head in heads:
        yield "head", {"layer": layer, "head": head}, head_of(inspected, layer, head)
        if len(heads) <= _SWITCHED:
            yield "off", {"layer": layer, "head": head}, without_head(use, source, layer, head, second=second)
    if isinstance(use, Generator | Translator):
        yield "beam", _BEAM, beam_tree(use, source, **_BEAM)


def _key(question: dict[str, Any]) -> str:
    """A question as the script of the file writes it."""
    return json.dumps(sorted(question.items()), ensure_ascii=False, separators=(",", ":"))


def _file(kept: dict[str, Any]) -> str:
    folder, name = "serving/page", kept["run"]["name"]
    styles = [packaged("report.css"), packaged("page.css", folder)]
    modules = [packaged("draw.js"), *(packaged(module, folder) for module in _MODULES)]
    head = element(
        "header",
        element("h1", name),
        element("p", "What the model does with one input. Attention shows where it looked, not why.", class_="note"),
    )
    return document(f"{name} explained", Markup(element("main", head) + data_block(kept)), styles, modules)
