from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seqloom.inspection.attention import AttentionMap, Example
from seqloom.inspection.charts import heat_map, smooth, ticks
from seqloom.inspection.report import ReportData, render

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"' onload=alert(1) x='\"",
    "]]></style><svg/onload=alert(1)>",
    "a\u2028b\u2029c\x85d",
    "\ud800\x00\x1b",
    "&lt;b&gt;",
]
VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page, and checks as it goes that each element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def names(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


def weights(layers: int, heads: int, rows: int, columns: int) -> np.ndarray:
    drawn = np.random.default_rng(7).random((layers, heads, rows, columns)) ** 5
    return drawn / drawn.sum(-1, keepdims=True)


def attention(text: str = "x", rows: int = 3, columns: int = 5, title: str = "cross-attention") -> AttentionMap:
    return AttentionMap(title, [text] * rows, [text] * columns, weights(2, 3, rows, columns))


def data(text: str = "x", **changes: Any) -> ReportData:
    """A run in which every text is `text`."""
    group = {"sentences": 11, "bleu": 31.5, "exact_match": 2.0}
    metrics = [
        {"kind": "train", "step": s, "seconds": s * 0.6, "loss": 9 / s, "nll": 8 / s, "lr": 0.1} for s in range(1, 40)
    ]
    metrics += [{"kind": "valid", "step": s, "loss": 7 / s, "perplexity": 3.0, "bleu": s} for s in (13, 26, 39)]
    evaluation = {
        "bleu": 31.25,
        "chrf": 57.5,
        "sentences": 22,
        "signature": text,
        "by_length": [
            {"from": 0, "below": 5, **group},
            {"from": 5, "below": 10, **group},
            {"from": 10, "below": None, **group},
        ],
        "by_kind": [{"kind": text, **group}],
    }
    whole: dict[str, Any] = {
        "name": text,
        "config": text,
        "info": {
            "task": text,
            "versions": {"torch": text},
            "processor": [text],
            "training": {"steps": 39, "minutes": 2.5},
        },
        "metrics": metrics,
        "samples": [{"step": s, "source": text, "reference": text, "translation": f"{text}{s}"} for s in (13, 26)],
        "evaluations": {text: evaluation},
        "examples": [Example(text, text, text, [attention(text, title=text), attention(text, title=f"cross {text}")])],
        "parameters": 4_200_000,
    }
    return ReportData(**(whole | changes))


def sections(text: str) -> list[str | None]:
    return [attributes["id"] for tag, attributes in Page(text).tags if tag == "section"]


def test_all_parts_are_there() -> None:
    text = render(data())
    assert sections(text) == ["training", "scores", "samples", "attention", "environment"]
    for shown in ("4.2 M", "31.25", "57.50", "2.5 min", "0–4", "5–9", "10+", "step 39 · 0.4 min"):
        assert shown in text


def test_scores_have_the_titles_of_the_measures() -> None:
    scores = {"bleu": 31.25, "bleu_moses": 41.75, "f1": 7.5, "sentences": 22, "seconds": 3.25}
    text = render(data(evaluations={"x": scores}))
    for title in ("BLEU, Moses tokens, lowercased", "F1, %", "seconds"):
        assert f">{title}</th>" in text
    assert "41.75" in text
    assert "best BLEU" in text
    assert "least loss" in text


def test_what_is_missing_is_left_out() -> None:
    empty = data(metrics=[], samples=[], evaluations={}, examples=[], info={}, config="", parameters=0)
    page = Page(render(empty))
    assert {tag for tag, _ in page.tags} & {"section", "svg", "figure", "table", "a"} == set()
    assert sections(render(data(metrics=[], evaluations={"x": {}}))) == ["samples", "attention", "environment"]
    assert 'class="maps"' not in render(data(examples=[Example("a", "b", "", [attention(rows=0)])]))


def test_loads_nothing() -> None:
    page = Page(render(data()))
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") or name in {"src", "srcset", "style", "action"} for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|import\(", "".join(page.texts))


def test_policy_allows_this_script_and_no_other() -> None:
    text = render(data())
    policy = next(a["content"] for tag, a in Page(text).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    found = render(data(text))
    assert Page(found).names() == Page(render(data())).names()
    found.encode()


@given(st.text(st.characters(), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_no_text_changes_the_structure(text: str) -> None:
    assume("signature" not in text)
    assert Page(render(data(text))).names() == Page(render(data())).names()


def test_text_is_shown_as_it_is() -> None:
    text = "</script> & \"quotes\" 'here' \u2028 <b>"
    page = Page(render(data(text)))
    assert page.texts.count(text) > 10
    assert {a["data-token"] for tag, a in page.tags if "data-token" in a} == {text}


ODD = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans(), st.just([]))


KEYS = ("step", "seconds", "loss", "nll", "lr", "bleu", "perplexity", "tokens_per_second")
ROWS = st.fixed_dictionaries({"kind": st.sampled_from(["train", "valid"])}, optional=dict.fromkeys(KEYS, ODD))


@given(st.lists(ROWS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_odd_metrics_break_nothing(rows: list[dict[str, Any]]) -> None:
    page = Page(render(data(metrics=rows)))
    for _, attributes in page.tags:
        for name in ("d", "x", "y", "cx", "cy", "height", "data-hover"):
            assert not re.search("nan|inf", attributes.get(name) or "", re.IGNORECASE)


def test_odd_scores_break_nothing() -> None:
    odd = {
        "bleu": math.nan,
        "chrf": None,
        "exact_match": 1.0,
        "by_length": [{"bleu": None}, {}],
        "by_kind": [{}],
        "kinds": "x",
    }
    text = render(data(evaluations={"odd": odd, "none": {}}))
    assert "nan" not in text[text.index('id="scores"') : text.index('id="samples"')]


def test_counts_have_no_decimals() -> None:
    text = render(data(evaluations={"x": {"bleu": 31.0, "tokens": 111279, "sentences": 20011}}))
    assert all(f">{shown}<" in text for shown in ("31.00", "111,279", "20,011"))


def test_one_point_is_no_curve() -> None:
    one = [{"kind": "valid", "step": 5, "loss": 1.0, "bleu": 2.0}]
    page = Page(render(data(metrics=one, evaluations={}, examples=[])))
    assert not [tag for tag, _ in page.tags if tag == "svg"]
    assert "The validations as a table" in page.texts


def test_development_of_a_sample_lists_each_version_once() -> None:
    steps = zip((10, 20, 30, 40), ("one", "two", "two", "three"), strict=True)
    rows = [{"step": s, "source": "S", "reference": "", "translation": t} for s, t in steps]
    text = render(data(samples=rows))
    part = Page(text[text.index('<section id="samples">') : text.index('<section id="attention">')]).texts
    assert part == [
        "Samples", "source", "S", "translation", "three", "How it developed until step 40",
        "step 10", "one", "step 20", "two", "step 40", "three",
    ]  # fmt: skip


def test_charts_have_words_and_tables() -> None:
    text = render(data())
    page = Page(text)
    charts = [a for tag, a in page.tags if tag == "svg"]
    assert all(a["role"] == "img" for a in charts)
    assert text.count("<title>") == text.count("<desc>") + 1 == len(charts) + 1
    assert "validation: 0.5385 at step 13 · 0.1 min, 0.1795 at step 39 · 0.4 min; least 0.1795, most 0.5385." in text
    assert "BLEU: 31.5 at 2 words, 31.5 at 12 words; least 31.5, most 31.5." in text


def test_without_a_script_the_first_cross_attention_is_there() -> None:
    maps = [
        attention(title=t, rows=r) for t, r in (("encoder self-attention", 2), ("cross-attention", 3), ("cross 2", 4))
    ]
    text = render(data(examples=[Example("a", "b", "", maps)]))
    figures = re.findall(r"<figure[^>]*>(?:(?!</figure>).)*cells.*?</figure>", text, re.DOTALL)
    assert ['hidden=""' in f for f in figures] == [True, False, True]
    assert ["fill-opacity" in f for f in figures] == [False, True, False]
    mean = maps[1].array()[-1].mean(0)
    assert _drawn(figures[1]) == pytest.approx(mean / mean.max(), abs=0.00501)


def _drawn(svg: str) -> np.ndarray:
    """The cells of a picture, 3 rows and 5 columns, read from its paths."""
    cells = np.zeros((3, 5))
    for shade, path in re.findall(r'<path fill-opacity="([\d.]+)" d="([^"]+)"', svg):
        for x, y in re.findall(r"M(\d+) (\d+)h", path):
            cells[int(y) // 20, int(x) // 20] = float(shade)
    return cells


def test_weights_travel_quantized() -> None:
    map_ = attention()
    text = render(data(examples=[Example("a", "b", "", [map_])]))
    (block,) = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text)[0])
    values = np.frombuffer(base64.b64decode(block["weights"]), np.uint8).reshape(2, 3, 3, 5)
    assert (block["layers"], block["heads"]) == (2, 3)
    assert values / 255 == pytest.approx(map_.array(), abs=0.501 / 255)


def test_size_of_a_usual_report() -> None:
    tokens = ["▁Übersetzung"] * 30
    maps = [AttentionMap("cross-attention", tokens, tokens, weights(4, 4, 30, 30))] * 3
    assert len(render(data(examples=[Example("a", "b", "c", maps)] * 3)).encode()) < 600_000


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="instead of"):
        render(data(examples=[Example("a", "b", "", [AttentionMap("m", ["x"], ["y", "z"], np.ones((1, 1, 2, 1)))])]))


def test_odd_weights_are_drawn_as_nothing() -> None:
    odd = AttentionMap("m", ["x"], ["y", "z"], [[[[math.nan, 0.0]]]])
    assert "<path fill-opacity" not in render(data(examples=[Example("a", "b", "", [odd])]))


@given(st.text(st.characters(), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_picture_is_xml_with_a_title(text: str) -> None:
    root = ElementTree.fromstring(heat_map(f"map {text}, layer 1", [text] * 3, [text] * 5, attention().array()[0, 0]))
    title = root.findtext("title") or ""
    assert root.tag == "svg"
    assert title.startswith("map ")
    assert title.endswith(", layer 1")
    assert len(root.findall("text")) == 8


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.integers(2, 6))
@settings(deadline=None)
def test_ticks_rise_around_the_range(a: float, b: float, most: int) -> None:
    low, high = sorted((a, b))
    marks = ticks(low, high, most)
    room = 1e-9 * max(abs(low), abs(high))
    assert marks[0] <= low + room
    assert marks[-1] >= high - room
    assert 2 <= len(marks) <= most + 3
    assert all(x < y for x, y in pairwise(marks))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=300), st.floats(-5, 5))
@settings(deadline=None)
def test_smoothing_keeps_lines_and_bounds(values: list[float], slope: float) -> None:
    smoothed = [y for _, y in smooth([(float(i), y) for i, y in enumerate(values)])]
    assert min(values) - 1e-9 <= min(smoothed) <= max(smoothed) <= max(values) + 1e-9
    line = [(float(i), slope * i) for i in range(len(values))]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line], abs=1e-9)
