"""A real Chromium works the page of a running server by mouse and key: each view, dark, light and on a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import CHROMIUM, Page, browsing

from seqloom.files import WEIGHTS
from seqloom.run import Run
from seqloom.tasks.building import load_run
from seqloom.tasks.task import RunConfig
from seqloom.training.checkpoint import Progress, save_checkpoint, save_weights
from seqloom.training.log import Reporter
from seqloom.workflows.explain import explain

AXE = Path(__file__).parents[2] / "build/axe/package/axe.min.js"
DONE = "document.querySelector('.view [role=status]').textContent.match(/\\d+ tokens/)"
TEXT = "ba <i>ko</i> مرحبا 世界"
WAVE = "\n".join(f"{0.1 * i:.1f}, {'?' if i == 4 else 9 - i}" for i in range(20))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: no chromium here (Debian: apt-get install chromium)"),
]


@contextmanager
def serving(*runs: Path, **more: str) -> Iterator[str]:
    """The address of a server of runs."""
    command = [sys.executable, "-m", "seqloom", "serve", *map(str, runs), "--port", "0"]
    said: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=os.environ | more, text=True, **said) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[^/]+/", line)
        assert found, line + process.stdout.read()
        yield found[0]
        process.terminate()


@pytest.fixture(scope="module")
def growing(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A translator in training, with two checkpoints."""
    run = Run(Path(shutil.copytree(runs / "mt", tmp_path_factory.mktemp("runs") / "growing")))
    run.append("metrics.jsonl", *({"kind": "train", "step": s, "loss": 3 / s, "seconds": 1.0 * s} for s in (10, 20)))
    run.append("samples.jsonl", {"step": 20, "source": TEXT, "translation": "mi"})
    loaded = load_run(run, RunConfig, precision="fp32")
    weights = {name: value.detach().flip(0) for name, value in loaded.model.named_parameters()}
    save_checkpoint(run, Progress(step=20), lambda folder: save_weights(folder / WEIGHTS, weights))
    return run


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures: a ring and a cross."""
    images, folder = pytest.importorskip("PIL.Image"), tmp_path_factory.mktemp("shapes")
    y, x = np.mgrid[-15:17, -15:17]
    drawn = {"ring": abs(np.hypot(x, y) - 10) < 3, "cross": (abs(x) < 3) | (abs(y) < 3)}
    for name, shape in drawn.items():
        images.fromarray((255 * shape).astype(np.uint8)).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]


@pytest.fixture(scope="module")
def guide(runs: Path, drawings: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of texts beside pictures that was trained on one of them, among other tasks."""
    run = Run(Path(shutil.copytree(runs / "guide", tmp_path_factory.mktemp("runs") / "guide")))
    sample = {"step": 20, "task": "german", "source": f"{drawings[0]}\tba ko", "reference": "mi", "translation": "mi"}
    run.append("samples.jsonl", sample, {"step": 20, "task": "other", "source": "lan lan", "translation": "mi"})
    return run


@pytest.fixture(scope="module")
def address(runs: Path, growing: Run, guide: Run) -> Iterator[str]:
    """The address of a server of all runs."""
    names = ("mt", "lm", "bytes", "label", "span", "words", "waves", "steps", "pens", "ahead", "scenes", "vectors")
    with serving(growing.path, guide.path, *(runs / name for name in names)) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """A page that says nothing on its console and asks no other server."""
    browser.forget()
    yield browser
    assert browser.said == []
    assert {url[: len(address)] for url in browser.loaded if not url.startswith(("data:", "blob:"))} <= {address}


def shown(page: Page, address: str, view: str, run: str, **how: Any) -> None:
    """Opens a view of a run."""
    page.open("about:blank")
    page.open(f"{address}#{view}/{run}", **how)
    page.until("document.querySelector('#view')?.ariaBusy === 'false'")
    assert page.js("document.querySelector('#tabs [aria-current]').hash") == f"#{view}/{run}"


def write(page: Page, text: str = "ba ko mi") -> None:
    """Writes a text into the first field of the view, in place of what it has."""
    page.click(".view textarea, .view input")
    page.js("document.activeElement.select()")
    page.type(text)


def test_the_first_view_is_there_within_a_second(page: Page, address: str):
    shown(page, address, "task", "mt")
    assert page.js("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000
    sizes = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('.js')).map(e => e.decodedBodySize)"
    assert 10_000 < sum(page.js(sizes)) < 300_000


def test_tabs_are_reached_by_key_and_lead_to_all_views(page: Page, address: str):
    shown(page, address, "task", "growing")
    titles = page.js("[...document.querySelectorAll('#tabs a')].map(a => a.textContent)")
    assert {"Try it", "Side by side", "Embeddings", "Training"} <= {*titles}
    page.js("document.querySelector('#tabs a').focus()")
    for title in titles[1:]:
        page.press("Tab", "Enter")
        page.until(f"document.querySelector('#view h2')?.textContent === {json.dumps(title)}")
        page.until(f"document.activeElement.textContent === {json.dumps(title)}")
        assert page.js("document.title").startswith(title)
        assert not page.js("document.querySelector('#problem').textContent")


def test_another_run_is_chosen_from_the_list(page: Page, address: str):
    shown(page, address, "task", "mt")
    page.choose("#run", "label")
    page.until("document.querySelector('.view button.main')?.textContent === 'Classify'")
    assert page.js("location.hash") == "#task/label"


def test_a_token_is_forced_by_mouse(page: Page, address: str):
    shown(page, address, "task", "mt")
    write(page)
    page.click("button.main")
    page.until(DONE)
    before = page.js("[...document.querySelectorAll('.chip bdi')].map(b => b.textContent)")
    page.click(".chip", 2)
    assert page.js("document.querySelectorAll('.chip')[2].ariaExpanded") == "true"
    other = page.text(".choices li:nth-child(2) bdi")
    page.click(".choices button", 1)
    page.until("document.querySelector('.chip.forced')")
    page.until(DONE)
    after = page.js("[...document.querySelectorAll('.chip bdi')].map(b => b.textContent)")
    assert after[:3] == [*before[:2], other]
    assert page.js("document.querySelectorAll('.chip.forced').length") == 3


def test_a_token_is_forced_by_key(page: Page, address: str):
    shown(page, address, "task", "lm")
    write(page)
    page.press("Tab", "Enter")
    page.until(DONE)
    page.js("document.querySelector('.chip').focus()")
    page.press("ArrowRight", "ArrowRight", "ArrowLeft", "Enter")
    assert page.js("[...document.querySelectorAll('.chip')].findIndex(c => c.ariaExpanded === 'true')") == 1
    page.press("Tab", "Tab", "Enter")
    page.until("document.querySelector('.chip.forced')")
    page.until(DONE)
    assert page.js("[...document.querySelectorAll('.chip')].indexOf(document.activeElement)") == 1


def test_a_conversation_goes_on_until_a_new_one(page: Page, address: str):
    shown(page, address, "task", "bytes")
    turns = "[...document.querySelectorAll('.turns li')].map(li => li.textContent)"
    said = []
    for text in ("ba ko", "mi"):
        write(page, text)
        page.press("Tab", "Enter")
        page.until(f"document.querySelectorAll('.turns li').length === {len(said) + 1}")
        page.until(DONE)
        said += [text, page.js("document.querySelector('.written').textContent")]
    assert page.js(turns) == said[:3]
    page.click("form button:not([hidden]):last-of-type")
    assert page.js(turns) == []


@pytest.mark.parametrize(
    ("run", "expected"), [("label", r"few|many"), ("words", r"Masked word 1"), ("span", r"probability \d|<1 %")]
)
def test_what_reads_predicts(page: Page, address: str, run: str, expected: str):
    shown(page, address, "task", run)
    if run != "words":
        write(page)
    if run == "span":
        page.click(".view textarea", 1)
        page.type("ko mi ba lu")
    page.click("button.main")
    page.until("document.querySelector('.choices')")
    assert re.search(expected, page.text("form + p + .view"))


def choose_file(page: Page, path: Path, then: str = "document.querySelector('.view textarea').value === ''") -> None:
    """Chooses a file, as a person does in the dialog."""
    found = page("Runtime.evaluate", expression="document.querySelector('input[type=file]')")
    page("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])
    page.until(then)


def asked_for(page: Page, ready: str) -> None:
    """Presses the button of the box, and waits for the answer."""
    page.js("document.querySelectorAll('form ~ *').forEach(n => n.replaceChildren())")
    page.click("button.main")
    page.until(ready)


def test_a_signal_is_written_or_a_file(page: Page, address: str, tmp_path: Path):
    shown(page, address, "task", "waves")
    write(page, WAVE)
    page.press("Tab", "Tab", "Tab", "Enter")  # over the file and its number
    strips = "[...document.querySelectorAll('figure svg.chart title')].map(t => t.textContent)"
    page.until("document.querySelector('figure svg.chart[tabindex]')")
    assert page.js(strips) == ["attention: layer 1", "attention: rollout"]
    assert re.fullmatch("fast|slow", page.text(".written"))
    page.js("document.querySelector('figure svg[tabindex]').focus()")
    page.press("ArrowLeft")
    assert page.text("figure output").startswith("step 18 · channel 1 1.8")
    written = page.text(".choices")
    rows = [line.split(", ") for line in WAVE.split("\n")]
    (tmp_path / "new.csv").write_text("\n".join(["a,b", *map(",".join, rows)]), encoding="utf-8")
    choose_file(page, tmp_path / "new.csv")
    asked_for(page, "document.querySelector('.choices') && document.querySelector('figure')")
    assert page.text(".choices") == written
    values = np.array([[float(x) if x != "?" else np.nan for x in row] for row in rows])
    np.savez(tmp_path / "two.npz", values=np.stack((values[::-1], values)))
    choose_file(page, tmp_path / "two.npz")
    asked_for(page, "!document.querySelector('#problem').hidden")
    assert "has 2 series" in page.text("#problem")
    page.said.clear()
    page.click("input[type=number]")
    page.type("2")
    asked_for(page, "document.querySelector('.choices') && document.querySelector('figure')")
    assert page.text(".choices") == written


def test_a_file_is_dropped_and_numbers_take_its_place(page: Page, address: str):
    shown(page, address, "task", "steps")
    page.js(
        "{ const t = new DataTransfer(); t.items.add(new File(['a,b\\n1,2\\n'], 'new.csv'));"
        "document.querySelector('textarea').dispatchEvent(new DragEvent('drop', {bubbles: true, dataTransfer: t})); }"
    )
    page.until("document.querySelector('input[type=file]').files.length === 1")
    write(page, WAVE)
    assert page.js("document.querySelector('input[type=file]').files.length") == 0
    asked_for(page, "document.querySelector('.span rect')")
    spans = page.js("[...document.querySelectorAll('.span title')].map(t => t.textContent)")
    chips = page.js("[...document.querySelectorAll('.chips .chip')].map(c => c.innerText.replace(/\\s+/g, ' ').trim())")
    assert [
        f"{label} {first}–{last}"
        for first, last, label in (re.findall(r"\w+(?= to)|\w+(?= \w+$)|\w+$", s) for s in spans)
    ] == chips
    assert chips[-1].endswith("20")


def test_what_is_no_signal_is_said_where_it_is_written(page: Page, address: str):
    shown(page, address, "task", "waves")
    page.click("button.main")
    page.until("document.querySelector('#problem').textContent.startsWith('Choose a file')")
    write(page, "1, 2\n3, x")
    page.click("button.main")
    page.until("document.querySelector('#problem').textContent === 'Line 2: “x” is no number.'")


def test_a_signal_is_continued(page: Page, address: str):
    shown(page, address, "task", "ahead")
    assert page.js("[...document.querySelectorAll('#tabs a')].map(a => a.textContent)") == ["Try it"]
    write(page, WAVE)
    asked_for(page, "document.querySelectorAll('figure svg.chart[tabindex]').length === 2")
    assert page.text("figure output").startswith("step 5 ahead · forecast ")
    page.click("input[type=number]", 1)
    page.type("7")
    asked_for(page, "document.querySelectorAll('figure svg.chart[tabindex]').length === 2")
    page.js("document.querySelector('figure svg[tabindex]').focus()")
    page.press("ArrowLeft")
    assert page.text("figure output").startswith("step 6 ahead · forecast ")


def test_a_signal_is_translated_and_its_tokens_have_reasons(page: Page, address: str):
    shown(page, address, "task", "pens")
    write(page, WAVE)
    page.click("button.main")
    page.until(f"{DONE} && document.querySelector('figure svg.chart[tabindex]')")
    page.click(".chip", 1)
    page.click(".choices + .row button")
    page.until("document.querySelectorAll('.counted').length === 2")
    assert page.js("document.querySelector('.counted').childElementCount") == 5  # what a front makes of 20 steps


GUIDE = "guide%2Fgerman"
PICTURE = "document.querySelector('canvas.picture').hidden === false"


def test_a_text_is_translated_beside_its_picture(page: Page, address: str, drawings: list[Path]):
    shown(page, address, "task", GUIDE)
    labels = page.js("[...document.querySelectorAll('form .field')].map(l => l.firstChild.textContent)")
    assert labels == ["Text to translate", "Picture"]
    write(page, "ba ko mi")
    page.click("button.main")
    page.until("document.querySelector('#problem').textContent === 'Choose a picture first.'")
    choose_file(page, drawings[1], PICTURE)
    page.click("button.main")
    page.until(f"{DONE} && document.querySelector('.overlays')")
    p = "[...document.querySelectorAll('.chip')].map(chip => chip.innerText)"
    first = page.js(p)
    page.click(".chip", 1)
    page.click(".choices + .row button")
    page.until("document.querySelectorAll('.counted').length === 3")  # of the picture, the text, and what is written
    write(page, "lan")
    asked_again = page.js(p)
    page.click("button.main")
    page.until(f"{DONE} && JSON.stringify({p}) !== {json.dumps(json.dumps(asked_again, separators=(',', ':')))}")
    assert page.js(p) != first


@pytest.mark.parametrize("view", ["attention", "beam", "layers", "predictions"])
def test_a_text_beside_its_picture_is_looked_into(page: Page, address: str, drawings: list[Path], view: str):
    shown(page, address, view, GUIDE)
    page.until(READY[view])  # at once, with a sample of the training of this task
    assert page.js("document.querySelector('.view textarea').value") == "ba ko"
    assert page.js(PICTURE)
    write(page, "ba ko mi")
    choose_file(page, drawings[1], PICTURE)
    page.js("document.querySelectorAll('form').forEach(f => f.parentElement.nextSibling?.replaceChildren?.())")
    page.click("button.main")
    page.until("document.querySelector('.view[aria-busy=false]')")
    page.until(READY[view])
    if view == "attention":
        assert page.js("document.querySelectorAll('.over rect').length") == 4  # patches, no tokens
        page.click(".switches button", 3)
        page.until("document.querySelector('.one h3').textContent.startsWith('decoder')")
        assert page.js("document.querySelector('.over')") is None  # words look at words there
    if view == "predictions":
        assert page.js("document.querySelectorAll('.counted').length") == 3


def test_texts_are_compared(page: Page, address: str):
    shown(page, address, "task", "vectors")
    write(page, f"ba ko\n{TEXT}\n\nba ko")
    asked_for(page, "document.querySelector('table.similar')")
    rows = page.js("[...document.querySelectorAll('.similar tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    cosines = [list(map(float, row[1:])) for row in rows]
    assert [row[0] for row in rows] == ["1. ba ko", f"2. {TEXT}", "3. ba ko"]
    assert [cosines[i][i] for i in range(3)] == [1, 1, 1]
    assert cosines[0] == [1, cosines[1][0], 1]
    assert cosines[1][0] < 1
    write(page, "ba ko")
    page.click("button.main")
    page.until("document.querySelector('#problem').textContent.startsWith('Write 2 to 40 texts')")


def test_what_is_refused_is_read_out(page: Page, address: str):
    shown(page, address, "task", "mt")
    page.click("button.main")
    page.until("!document.querySelector('#problem').hidden")
    assert "blank" in page.text("#problem[role=alert]")
    assert [said for said in page.said if "400" not in said] == []
    page.said.clear()


def test_curves_grow_and_the_slider_shows_other_attention(page: Page, address: str, growing: Run):
    shown(page, address, "training", "growing")
    assert "step 20" in page.text("[role=status]")
    growing.append("metrics.jsonl", {"kind": "train", "step": 30, "loss": 0.1, "seconds": 30.0})
    page.until("document.querySelector('[role=status]').textContent.includes('step 30')")
    page.until("document.querySelector('figure output').textContent.startsWith('step 30')")
    assert page.js("document.querySelector('.training textarea').value") == TEXT
    page.js("document.querySelector('input[type=range]').focus()")
    shades = "document.querySelector('.maps figure:not([hidden]) .cells').innerHTML"
    page.until("document.querySelector('.heads button')")
    last, label = page.js(shades), "document.querySelector('.training .row output').textContent"
    page.press("ArrowLeft")
    page.until(f"{label}.startsWith('step 0') && {shades} !== '{last}'")
    page.press("ArrowRight")
    page.until(f"{label} === 'step 20' && {shades} === '{last}'")
    assert page.js("document.querySelectorAll('#view i').length") == 0


def test_neighbours_map_and_analogies(page: Page, address: str):
    shown(page, address, "embeddings", "lm")
    words = page.js("[...document.querySelectorAll('.embeddings g title')].map(t => t.textContent)")
    write(page, words[0].removeprefix("_"))
    page.press("Enter")
    page.until("document.querySelector('.choices')")
    nearest = page.text(".choices bdi")
    assert page.js("document.querySelectorAll('.embeddings g.on').length") > 0
    page.click(".choices button")
    page.until(f"document.querySelector('.embeddings h3').textContent.includes({json.dumps(nearest)})")
    page.click(".embeddings form button[type=button]")
    page.until("document.querySelectorAll('.embeddings circle').length === 13")
    for i, word in enumerate(words[:3], 1):
        page.click(".view input", i)
        page.type(word)
    page.press("Enter")
    page.until("document.querySelectorAll('.choices').length === 2")


def test_what_counted_for_a_token_and_rather_than_another(page: Page, address: str):
    shown(page, address, "task", "growing")
    write(page)
    page.click("button.main")
    page.until(DONE)
    page.click(".chip", 1)
    page.click(".choices + .row button")
    page.until("document.querySelectorAll('.counted').length === 2")
    counted = page.js("document.querySelector('.counted').textContent")
    page.click("[aria-label='Rather than'] button")
    page.until("document.querySelector('[aria-live] .note').textContent.includes('its lead over')")
    assert page.js("document.querySelector('.counted').textContent") != counted


def test_two_runs_side_by_side(page: Page, address: str):
    shown(page, address, "compare", "growing")
    write(page)
    page.press("Tab", "Enter")
    page.until("document.querySelectorAll('.columns .heads').length === 2")
    texts = page.js("[...document.querySelectorAll('.columns .written')].map(p => p.textContent)")
    assert texts[0] == texts[1]  # one is a copy of the other
    assert page.js("document.querySelectorAll('.columns section')[1].ariaLabel") == "mt"


SHORT = "ba <i>世"
READY = {
    "attention": "document.querySelector('.one .cells > *')",
    "beam": "document.querySelector('.tree button')",
    "layers": "document.querySelector('.walk .strip') && document.querySelector('.layers section')",
    "predictions": "document.querySelector('.counted')",
}


def looked_into(page: Page, address: str, view: str, run: str = "mt", **how: Any) -> None:
    """Opens a view of what is inside, and asks for a text there."""
    shown(page, address, view, run, **how)
    write(page, SHORT)
    page.click("button.main")
    page.until("document.querySelector('.view[aria-busy=false]')")
    page.until(READY[view])


def test_attention_is_read_by_mouse_and_key(page: Page, address: str):
    looked_into(page, address, "attention")
    titles = page.js("[...document.querySelectorAll('.switches button')].map(b => b.textContent)")
    assert titles == ["cross-attention", "encoder self-attention", "decoder self-attention"]
    shades = "document.querySelector('.one .cells').innerHTML"
    before = page.js(shades)
    page.click(".headmap button")
    assert page.js(shades) != before
    assert page.text(".one h3").startswith("cross-attention, layer 1, head 1")
    page.press("ArrowRight", "Enter")
    assert page.text(".one h3").startswith("cross-attention, layer 1, head 2")
    page.js("document.querySelector('.one svg.heat').focus()")
    page.press("ArrowDown")
    read = page.text(".one output")
    marked = "[...document.querySelectorAll('%s text.on')].map(t => t.textContent.replace(/^_(?=.)/, ''))"
    assert page.js(marked % ".one .heat") == page.js(marked % ".arcmap")  # both mark the same tokens
    assert re.search(r" → .*: \d\.\d+$", read)
    page.js("document.querySelector('.arcmap').focus()")
    page.press("ArrowRight")
    assert " is looked at by " in page.text(".one output")
    page.click(".switches button", 1)
    page.until("document.querySelector('.one h3').textContent.startsWith('encoder')")
    page.choose(".attention select", "1")
    entropies = page.js(
        "[...document.querySelectorAll('.headmap button')].map(b => +b.title.match(/([\\d.]+) bits/)[1])"
    )
    assert entropies == sorted(entropies)
    assert len(entropies) == 4  # two heads, their mean, and through all layers


def test_attention_is_saved_as_it_is_shown(page: Page, address: str):
    looked_into(page, address, "attention")
    page.js("window.kept = []; URL.createObjectURL = blob => { kept.push(blob.text()); return '#attention/mt'; }; 0")
    page.click(".one + .row button", 0)
    page.click(".one + .row button", 1)
    drawing, data = page.js("Promise.all(kept)")
    assert page.js(
        f"new DOMParser().parseFromString({json.dumps(drawing)}, 'image/svg+xml').querySelector('rect') !== null"
    )
    found = json.loads(data)
    assert [len(found["weights"]), len(found["weights"][0])] == [len(found["rows"]), len(found["columns"])]
    assert [sum(row) for row in found["weights"]] == pytest.approx([1] * len(found["rows"]), abs=1e-3)


def test_a_search_is_walked_through_by_key_and_compared(page: Page, address: str):
    looked_into(page, address, "beam")
    won = "[...document.querySelectorAll('.tree button.won bdi')].map(b => b.textContent)"
    assert page.js(won)[-1] == "end"
    page.js("document.querySelector('.tree button[tabindex=\"0\"]').focus()")
    page.press("ArrowRight")
    assert page.text(".beam output").startswith("Step 2, ")
    page.press("ArrowDown", "ArrowLeft")
    assert page.text(".beam output").startswith("Step 1, ")
    page.click(".tree button.pruned")
    assert "pruned: " in page.text(".beam output")
    page.click(".check input")
    assert page.js("document.querySelector('.tree button.pruned').checkVisibility()") is False
    page.click("form input[type=number]", 2)
    page.type("1")
    page.press("Enter")
    page.until("document.querySelectorAll('section.beam').length === 2")
    assert "Beam of 1" in page.text("section.beam + section.beam h3")


def test_a_token_is_followed_through_the_layers(page: Page, address: str):
    looked_into(page, address, "layers")
    stages = page.js("[...document.querySelectorAll('.walk h3')].map(h => h.textContent)")
    assert len(stages) == 5
    assert stages[-1] == "Output: softmax over the vocabulary"
    weights = "[...document.querySelectorAll('.qkv td:nth-of-type(3)')].map(c => +c.textContent)"
    assert sum(page.js(weights)) == pytest.approx(1, abs=0.02)
    page.click(".chips .chip", 2)
    page.until("document.querySelectorAll('.chips .chip')[2].ariaPressed === 'true'")
    page.press("ArrowRight", "Enter")
    page.until("document.querySelectorAll('.chips .chip')[3].ariaPressed === 'true'")
    page.until("document.querySelector('.walk').ariaBusy === 'false'")
    page.js("document.querySelector('canvas.strip[tabindex]').focus()")
    page.press("ArrowRight")
    assert page.text(".strips output").startswith("number 2 of 16: ")
    press = "[...document.querySelectorAll('.walk button')].find(b => b.textContent.startsWith('%s')).click()"
    page.js(press % "Switch")
    page.until("document.querySelector('.walk [aria-live] table')")
    page.js(
        "[...document.querySelectorAll('.walk button')].find(b => b.textContent.startsWith('What counted')).click()"
    )
    page.until("document.querySelector('.counted .chip')")
    assert page.js("document.querySelectorAll('.lens tbody tr').length") == 2
    page.click(".switches button", 0)
    page.until("document.querySelector('.walk').textContent.includes('predicts nothing by itself')")


def test_predictions_have_reasons(page: Page, address: str):
    looked_into(page, address, "predictions", "label")
    assert {page.text(".chips bdi")} <= {"few", "many"}
    assert page.js("document.querySelectorAll('.counted .chip').length") > 3


@pytest.mark.parametrize("name", ["mt", "lm", "label", "pens", "both", "guide"])
def test_an_explanation_opens_from_disk_without_a_network(
    browser: Page, runs: Path, tmp_path: Path, drawings: list[Path], name: str
):
    signal = json.dumps([[0.3 * i, 9 - i] for i in range(12)])
    both = f"{drawings[0]}\t{SHORT}"
    asked = {"pens": (signal, ""), "both": (signal, "waves"), "guide": (both, "german")}
    text, task = asked.get(name, (SHORT, ""))
    path = explain(runs / name, text, tmp_path / "one.html", Reporter(0), task)
    browser.forget()
    network: Any = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser("Network.emulateNetworkConditions", offline=True, **network)
    try:
        browser.open(path.as_uri(), width=390)
        for view in READY if name in ("mt", "guide") else ("attention", "layers", "predictions"):
            browser.until(READY[view])
        browser.click("#layers .chips .chip", 2)
        browser.until("document.querySelectorAll('#layers .chips .chip')[2].ariaPressed === 'true'")
        browser.click("#predictions .chips .chip", 0)
        browser.click("#attention .headmap button", 1)
        if folder := os.environ.get("SEQLOOM_PICTURES"):
            browser.picture(Path(folder, f"explained-{name}.png"))
        assert browser.js("[...document.querySelectorAll('.problem')].map(p => p.textContent).join('')") == ""
        assert browser.js("document.documentElement.scrollWidth") <= 390
        assert browser.js("document.querySelectorAll('i').length") == 0
        assert browser.said == []
        assert {url for url in browser.loaded if not url.startswith(("about:", "data:"))} == {path.as_uri()}
    finally:
        browser(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )


VIEWS = [("task", "mt"), ("training", "growing"), ("embeddings", "lm"), ("compare", "growing"), ("task", "span")]
VIEWS += [(view, "mt") for view in READY] + [("layers", "label"), ("attention", "span")]
SIGNALS = ["waves", "steps", "pens", "ahead"]
VIEWS += [("attention", GUIDE), ("task", "scenes"), ("beam", "pens")]
VIEWS += [("task", name) for name in (*SIGNALS, "vectors")] + [("attention", "pens"), ("layers", "waves")]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("view", "run"), VIEWS)
def test_views_fit_a_phone_and_are_accessible(page: Page, address: str, view: str, run: str, dark: bool):
    shown(page, address, view, run, width=390, dark=dark)
    texts = {"span": "ba", "vectors": f"{TEXT}\nko"} | dict.fromkeys(SIGNALS, WAVE)
    write(page, {"embeddings": "世"}.get(view, texts.get(run, TEXT)))
    if run == "span":
        page.click(".view textarea", 1)
        page.type(f"ko {TEXT}")
    if page.js("!!document.querySelector('button.main')"):
        page.click("button.main")
        page.until("!document.querySelector('[aria-busy=true]')")
    if view == "embeddings":  # it has no such word
        page.until("!document.querySelector('#problem').hidden")
        page.said.clear()
    if view in READY and run != "span":
        page.until(READY[view])
    if view == "task" and run == "mt":
        page.until(DONE)
        page.click(".chip")
    assert page.js("document.documentElement.scrollWidth") <= 390
    assert page.js("document.querySelectorAll('#view i').length") == 0
    if folder := os.environ.get("SEQLOOM_PICTURES"):
        page.picture(Path(folder, f"{view}-{run}-{'dark' if dark else 'light'}.png"))
    if not AXE.is_file():
        pytest.skip("NOT TESTED: accessibility, as there is no axe-core here: make test-browser fetches it")
    page.js(f"{AXE.read_text(encoding='utf-8')}; 0")
    found = page.js("axe.run().then(r => r.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html)]))")
    assert found == []


def test_text_runs_from_right_to_left_where_it_is_written_so(page: Page, address: str):
    shown(page, address, "task", "mt")
    directions = {}
    for text in ("שלום עולם", "ba ko", "世界"):
        write(page, text)
        directions[text] = page.js("getComputedStyle(document.querySelector('textarea')).direction")
    assert [*directions.values()] == ["rtl", "ltr", "ltr"]


@pytest.mark.parametrize(
    ("names", "direction"),
    [
        (["<s>", "של", "עולם"], "rtl"),
        (["\\xd9", "</s>", "_مر", "ba"], "rtl"),
        (["<s>", "ba", "של"], "ltr"),
        (["今", "\\xe6"], "ltr"),
        (["1", "\\xd7"], "ltr"),
    ],
)
def test_chips_run_as_their_first_letter_does(page: Page, address: str, names: list[str], direction: str):
    shown(page, address, "task", "mt")
    found, sides = {"sides": {"text": [1] * len(names)}, "change": 1}, {"text": {"names": names}}
    drawn = f"layerCounted({json.dumps(found)}, {json.dumps(sides)}, 'ba')"
    add = f"document.querySelector('#view').append(...{drawn})"
    page.js(f"import('/page/view-layers.js').then(({{layerCounted}}) => {{ {add}; }})")
    left = page.js("[...document.querySelectorAll('.counted .chip')].map(chip => chip.getBoundingClientRect().left)")
    assert left == sorted(left, reverse=direction == "rtl")
    assert len(left) == len(names)
    assert page.js("getComputedStyle(document.querySelector('.counted small')).direction") == "ltr"


def test_a_token_is_asked_for_once_by_the_browser(runs: Path, tmp_path: Path):
    with serving(runs / "mt", SEQLOOM_TOKEN="of ours") as url, browsing(tmp_path, password="of ours") as page:
        page.open(url)
        page.until("document.querySelector('#view')?.ariaBusy === 'false'")
        write(page)
        page.click("button.main")
        page.until(DONE)
        assert page.asked_for_password == 1
