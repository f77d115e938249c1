"""A search as a tree: what each step of the decoding of one text considered, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seqloom.decoding.config import Sampling, with_options
from seqloom.decoding.continuous import Reader
from seqloom.decoding.encoder_decoder import Writer
from seqloom.decoding.hypotheses import Search
from seqloom.decoding.job import Job
from seqloom.decoding.results import Candidate, Result
from seqloom.decoding.search import Running, last_of
from seqloom.errors import UsageError
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator

Json = dict[str, Any]
LONGEST = 60
"""The most tokens of a continuation that is searched for where its length is not named."""


def beam_tree(use: Generator | Translator, text: str, **options: Any) -> Json:
    """The search for the best continuation or translation of a text; `options` are those of decoding.

    `nodes` are the hypotheses, each with its parent, its token, the probability of this token and the log-probability
    of all; `status` is "live" where it goes on, "ended" where it is a result, which has a score, and "pruned" where
    `reason` says why it does not go on. `results` are those that ended, best first; `winner` is the path to the best.

    Raises UsageError for a model that does not search, or sampling.
    """
    if not isinstance(use, Generator | Translator):
        raise UsageError("the model writes no text, so that it searches for none", cure="look at its predictions")
    config = with_options(use.config, {"kind": "beam", **options})
    if isinstance(config, Sampling):
        raise UsageError("samples are drawn, not searched for", cure="leave the temperature out")
    engine, job = _job(use, text, config)
    task, state = last_of(engine.begin([job], 0))
    result = Result(job.request.stopped, torch.Generator(), steps=[])
    running = Running(engine.step, Search(task, config, [result]), state)
    while running:
        running.step()
    tokenizer = use.tokenizer if isinstance(use, Generator) else use.target
    nodes = _nodes(result.steps or [], tokenizer.tokens, set(task.all_ends), config.beam)
    best, hypotheses = result.best(1)[0], result.best(len(result.ended))
    at = next(node["id"] for node in nodes if node.get("hypothesis") is best)
    winner = [at]
    while nodes[winner[0]]["parent"] is not None:
        winner.insert(0, nodes[winner[0]]["parent"])
    numbered = {id(node.pop("hypothesis")): node["id"] for node in nodes if "hypothesis" in node}
    return {
        "beam": config.beam,
        "length_penalty": config.length_penalty,
        "steps": len(result.steps or []),
        "nodes": nodes,
        "winner": winner,
        "results": [
            {
                "node": numbered[id(h)],
                "text": use.decode(h.ids) if isinstance(use, Generator) else use.target.decode([h.ids])[0],
                "length": len(h.ids) + 1,
                "log_p": h.log_p,
                "score": h.score,
            }
            for h in hypotheses
        ],
    }


def _job(use: Generator | Translator, text: str, config: Any) -> tuple[Reader, Job]:
    if isinstance(use, Generator):
        job = use.job(text, max_length=config.max_length or LONGEST).job
        job.config = config
        return use.engine, job
    (row,) = use.encode([text])
    if not len(row):
        raise UsageError("there is nothing to translate in a blank text", cure="give a text")
    target = use.target
    writer = Writer(use.model, start=target.start, end=target.end, ends=target.stops, suppressed=target.suppressed)
    return writer, writer.job(row, config)


def _nodes(steps: Sequence[Sequence[Candidate]], tokens: Any, ends: set[int], beam: int) -> list[Json]:
    nodes: list[Json] = []
    live: dict[int, int | None] = {0: None}  # the node of each live hypothesis
    for number, step in enumerate(steps):
        after: dict[int, int | None] = {}
        for rank, one in enumerate(step):
            parent = live[one.parent]
            before = 0.0 if parent is None else nodes[parent]["log_p"]
            node: Json = {
                "id": len(nodes),
                "parent": parent,
                "step": number,
                "rank": rank,
                "token": tokens([one.token])[0],
                "end": one.token in ends,
                "log_p": one.log_p,
                "log_q": min(0.0, one.log_p - before),
                "status": "live" if one.place is not None else "ended" if one.ended else "pruned",
            }
            if one.place is not None:
                node["place"] = one.place
                after[one.place] = node["id"]
            elif one.ended is not None:
                node |= {"score": one.ended.score, "hypothesis": one.ended, "at_limit": one.ended.reason == "length"}
            else:
                node["reason"] = _reason(node, step, beam, number == len(steps) - 1)
            nodes.append(node)
        live = after
    return nodes


def _reason(node: Json, step: Sequence[Candidate], beam: int, last: bool) -> str:
    if node["end"]:
        return f"it ends, but is not among the {beam} best candidates of its step"
    better = sum(one.place is not None for one in step[: node["rank"]])
    if better >= beam:
        return f"{beam} candidates of its step that go on are more probable"
    return "the search was over: no hypothesis that goes on could score better" if last else "it is not among the best"
