"""The page that people see: each of its files by its address, and no other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

FOLDER = Path(__file__).with_name("page")
SHARED = ("draw.js", "report.css")
"""Files of inspection/, which the reports have in them."""
VIEWS = ("attention", "beam", "compare", "embeddings", "layers", "predictions", "task", "training")
OWN = ("app.js", "api.js", "asking.js", "chips.js", "page.css", "icon.svg", *(f"view-{name}.js" for name in VIEWS))
FILES = {
    "/": "index.html",
    **{f"/page/{name}": name for name in OWN},
    **{f"/page/{name}": f"../../inspection/{name}" for name in SHARED},
}
"""The place of the file, from seqloom/serving/page/, for each address."""

router = APIRouter(include_in_schema=False)


async def _file(name: str) -> FileResponse:
    return FileResponse(FOLDER / name)


for _address, _name in FILES.items():
    router.add_api_route(_address, partial(_file, _name), response_model=None)
