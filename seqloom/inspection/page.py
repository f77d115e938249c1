"""Building blocks of pages: markup that is escaped by construction, and one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

# Of modules, which a page without a server has as one script.
_EXPORT, _IMPORT = re.compile("^export ", re.MULTILINE), re.compile("^import .*\n", re.MULTILINE)
# Not allowed in HTML or XML: control characters, lone surrogates, the two non-characters.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is already HTML. All other text is escaped when it is added."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Markup:
    """An element; `class_` stands for class, `data_x` for data-x; None as content or value is left out."""
    head = "".join(f' {k.rstrip("_").replace("_", "-")}="{_text(v)}"' for k, v in attributes.items() if v is not None)
    return Markup(f"<{name}{head}>{join(content)}</{name}>")


def join(content: Iterable[object]) -> Markup:
    """Pieces of markup and text in sequence."""
    return Markup("".join(c if isinstance(c, Markup) else _text(c) for c in content if c is not None))


def _text(value: object) -> str:
    return escape(_ILLEGAL.sub("\ufffd", str(value)))


@dataclass(frozen=True)
class Table:
    """A table for a page or the terminal: its title, columns, rows of texts and numbers (None = no value), and note."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str | None = None


def cell(value: object) -> object:
    """What a table shows of a value: a number rounded to two decimals, a dash for None; a text as it is."""
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if abs(value) < 1e7 else f"{value:.2e}"
    return "–" if value is None else value


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose first column names the row; it scrolls where the screen is too narrow."""
    cells = ([cell(value) for value in row] for row in rows)
    body = (element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:])) for row in cells)
    head = element(
        "thead", element("tr", *(element("th", name, scope="col") if name else element("td") for name in columns))
    )
    content = element("table", head if any(columns) else None, element("tbody", *body))
    return element("div", content, class_="scroll")


def texts(rows: Mapping[str, str]) -> Markup:
    """Texts below each other, each with its name and in its own writing direction."""
    cells = ((element("th", name, scope="row"), element("td", _shown(text), dir="auto")) for name, text in rows.items())
    return element("table", element("tbody", *(element("tr", *row) for row in cells)), class_="texts")


def _shown(text: str) -> object:
    """A text as it is, or the image whose data: address it is, with the text behind a tab."""
    if not text.startswith("data:image/"):
        return text
    image, _, beside = text.partition("\t")
    return join([element("img", src=image, alt="the image", width=64), f" {beside}" if beside else None])


def figure(title: str, note: str | None, *content: object, keys: Sequence[Markup] = ()) -> Markup:
    """Content below its title, a note, and the keys of a legend."""
    return element("figure", element("figcaption", element("h3", title), note and element("p", note), *keys), *content)


def details(summary: str, *content: object, class_: str | None = None) -> Markup:
    """Content that opens on a click."""
    return element("details", element("summary", summary), *content, class_=class_)


def data_block(value: Any) -> Markup:
    """JSON for the script. No text in it can close the element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Markup(f'<script type="application/json">{text}</script>')


def page(title: str, head: Sequence[Markup], parts: Mapping[str, Markup]) -> str:
    """The whole file of a report: a header, and a section for each part that has content, with its title."""
    shown = ((name, part) for name, part in parts.items() if part)
    sections = (element("section", element("h2", name), part, id=name.lower()) for name, part in shown)
    body = element("main", element("header", *head), *sections)
    return document(title, body, [packaged("report.css")], [packaged("draw.js"), "enliven(document);\n"])


def document(title: str, body: Markup, styles: Sequence[str], modules: Sequence[str]) -> str:
    """One HTML file that needs nothing else.

    Its content policy lets the browser load nothing and run only the script that the modules are together; the names
    at their top level differ.
    """
    style, script = "".join(styles), "".join(_IMPORT.sub("", _EXPORT.sub("", module)) for module in modules)
    script = f'"use strict";\n{script}'
    allowed = f"img-src data:; style-src {_digest(style)}; script-src {_digest(script)}"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{element('title', title)}\n<style>{style}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def packaged(name: str, folder: str = "inspection") -> str:
    """The text of a script or style sheet of the package."""
    return files("seqloom").joinpath(folder, name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
