"""A real Chromium opens the report at the width of a phone, and works it with keys, pointer and selectors."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqloom.inspection.attention import AttentionMap, Example
from seqloom.inspection.report import ReportData, render

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--enable-logging=stderr", "--virtual-time-budget=5000"]
HOSTILE = "</script><script>parent.hacked=1</script><img src=x onerror=parent.hacked=1>\u2028'\""
ROWS, COLUMNS = ["das", "Haus", HOSTILE], ["a", "b", "the", "house", "."]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: no chromium here (Debian: apt-get install chromium)"),
]

# Runs beside the report, which is in a frame of 390 pixels, and notes what it finds there.
PROBE = """
const page = document.querySelector("iframe").contentDocument, found = { width: page.documentElement.scrollWidth };
const one = (path) => page.querySelector(path), text = (path) => one(path).textContent;
const key = (path, name) => one(path).dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const point = (node, x, y) => {
  const box = node.getBoundingClientRect();
  const place = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true };
  node.dispatchEvent(new PointerEvent("pointermove", place));
};
const choose = (index, value) => {
  const select = page.querySelectorAll(".controls select")[index];
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
const cells = () => [...page.querySelectorAll(".maps figure:not([hidden]) .cells rect")];
const shades = () => cells().map((cell) => +cell.getAttribute("fill-opacity"));
found.curve = text("#training output");
key("#training svg", "ArrowLeft");
found.curveLeft = text("#training output");
point(one("#training svg"), 0.12, 0.5);
found.curveStart = text("#training output");
found.mean = shades();
choose(2, 1);
found.head = shades();
found.caption = text(".maps figure:not([hidden]) figcaption");
point(one(".maps figure:not([hidden]) .cells"), 0.5, 0.5);
found.pointed = text(".maps figure:not([hidden]) output");
key(".maps figure:not([hidden]) svg.heat", "ArrowDown");
found.keyed = text(".maps figure:not([hidden]) output");
page.querySelectorAll(".heads button")[0].click();
found.small = shades();
found.pressed = [...page.querySelectorAll(".heads button")].map((b) => b.getAttribute("aria-pressed"));
choose(0, 0);
found.other = text(".maps figure:not([hidden]) figcaption");
found.focusable = page.querySelectorAll("svg[tabindex='0']").length;
found.titles = page.querySelectorAll("svg[aria-label]:not([aria-label=''])").length;
found.hacked = Boolean(window.hacked);
document.body.textContent = JSON.stringify(found);
"""


def weights(rows: int, columns: int) -> np.ndarray:
    drawn = np.random.default_rng(3).random((2, 3, rows, columns)) ** 3
    return drawn / drawn.sum(-1, keepdims=True)


CROSS = AttentionMap("cross-attention", ROWS, COLUMNS, weights(3, 5))


def report() -> str:
    metrics = [{"kind": "valid", "step": s, "seconds": 60.0 * s, "loss": 30 / s, "bleu": s} for s in (10, 20, 30)]
    long = "Donaudampfschifffahrtsgesellschaft" * 9
    group = {"sentences": 1000, "bleu": 31.5, "exact_match": 2.0}
    lengths = [{"from": n, "below": n + 5, **group} for n in range(0, 40, 5)]
    scores = {"bleu": 31.5, "bleu_lowercased": 32.5, "chrf": 50.0, "signature": long, "by_length": lengths}
    maps = [AttentionMap("encoder self-attention", COLUMNS * 6, COLUMNS * 6, weights(30, 30)), CROSS]
    return render(
        ReportData(
            name=HOSTILE + long,
            config=f'run = "{long}{HOSTILE}"',
            info={"task": "translate", "processor": [long, HOSTILE]},
            metrics=metrics,
            samples=[{"step": s, "source": long, "reference": HOSTILE, "translation": f"{s}"} for s in (10, 20)],
            evaluations={"test": scores, HOSTILE: scores},
            examples=[Example(long, HOSTILE, "", maps)],
        )
    )


def probed(folder: Path, probe: str, attributes: str) -> tuple[Any, str]:
    """What `probe` finds in a page that has the report in a frame, and what was said on the console."""
    assert CHROMIUM is not None
    path = folder / "outer.html"
    frame = f'<iframe {attributes} srcdoc="{html.escape(report())}"></iframe>'
    path.write_text(f'<!doctype html><meta charset="utf-8">{frame}<script>onload = () => {{{probe}}}</script>')
    own = [f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run([CHROMIUM, *FLAGS, *own], capture_output=True, timeout=240, check=True)
    body = re.search("<body>(.*)</body>", done.stdout.decode(), re.DOTALL)
    assert body is not None, done.stdout.decode()[-2000:]
    said = [line for line in done.stderr.decode().split("\n") if "CONSOLE" in line]
    return json.loads(html.unescape(body[1])), "\n".join(said)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result, said = probed(tmp_path_factory.mktemp("page"), PROBE, 'width="390" height="3000"')
    assert said == ""
    assert isinstance(result, dict)
    return result


def scaled(chosen: np.ndarray) -> list[float]:
    return list((chosen / chosen.max()).flatten())


def test_fits_a_phone(found: dict[str, Any]) -> None:
    assert found["width"] <= 390


def test_hostile_text_does_not_run(found: dict[str, Any]) -> None:
    assert found["hacked"] is False


def test_curves_are_read_off(found: dict[str, Any]) -> None:
    assert found["curve"] == "step 30 · 30.0 min · validation 1"
    assert found["curveLeft"] == "step 20 · 20.0 min · validation 1.5"
    assert found["curveStart"] == "step 10 · 10.0 min · validation 3"


def test_selectors_choose_the_weights(found: dict[str, Any]) -> None:
    last = CROSS.array()[-1]
    assert found["mean"] == pytest.approx(scaled(last.mean(0)), abs=0.01)
    assert found["head"] == pytest.approx(scaled(last[1]), abs=0.01)
    assert found["small"] == pytest.approx(scaled(last[0]), abs=0.01)
    assert found["pressed"] == ["true", "false", "false"]
    assert found["caption"] == f"cross-attention: layer 2, head 2, strongest {last[1].max():.2f}"
    assert found["other"].startswith("encoder self-attention: layer 2, mean over heads, strongest ")


def test_cells_are_read_off_by_pointer_and_keys(found: dict[str, Any]) -> None:
    read = found["pointed"].rsplit(": ", 1), found["keyed"].rsplit(": ", 1)
    assert [where for where, _ in read] == ["Haus → the", f"{HOSTILE} → the"]
    assert [float(w) for _, w in read] == pytest.approx(CROSS.array()[1, 1, 1:, 2].tolist(), abs=0.01)


def test_pictures_can_be_reached_by_key_and_have_names(found: dict[str, Any]) -> None:
    assert found["focusable"] == found["titles"] == 6  # loss, BLEU, two maps, BLEU by length of two test sets


def test_without_scripts_the_static_picture_is_there(tmp_path: Path) -> None:
    probe = """
    const page = document.querySelector("iframe").contentDocument;
    const maps = [...page.querySelectorAll(".maps svg")].map((svg) => svg.getBoundingClientRect().width > 100);
    const cells = page.querySelectorAll(".maps .cells path").length;
    document.body.textContent = JSON.stringify([maps, cells, page.querySelectorAll("select, button").length]);
    """
    (shown, cells, controls), _ = probed(tmp_path, probe, 'sandbox="allow-same-origin"')
    assert shown == [False, True]
    assert cells > 5
    assert controls == 0
