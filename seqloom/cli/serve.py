"""seqloom serve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from seqloom.cli.common import ENGINE, Engine, Quiet, bounded
from seqloom.errors import UsageError, optional
from seqloom.limits import Bounds

_FEATURE = "serving over HTTP"


@Parameter(name="*")
@dataclass(frozen=True)
class At:
    """Where the server listens, and to whom.

    Args:
        host: The address to listen at; any but this machine's own needs a token.
        port: The port; 0 = any that is free.
        token: What each request must bring: Authorization: Bearer TOKEN.
        host_name: Further names of the server, as in the address of its page.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, bounded(Annotated[int, Bounds(0, 65535)])] = 8000
    token: Annotated[str, Parameter(env_var="SEQLOOM_TOKEN", show_default=False)] = ""
    host_name: tuple[str, ...] = ()


def serve(
    *runs: str,
    adapter: Annotated[tuple[str, ...], Parameter(name="--adapter", consume_multiple=True)] | None = None,
    at: At = At(),
    by: Engine = ENGINE,
    quiet: Quiet = False,
) -> None:
    """Serve runs over HTTP to programs that speak OpenAI's interface, until Ctrl-C.

    Requests choose a run by its name, that of its directory, or NAME of NAME=RUN. See docs/serving.md.

    Args:
        runs: The run directories, each as RUN or NAME=RUN.
        adapter: Adapters of the first run, each as RUN, NAME=RUN, FILE or NAME=FILE; the weights of that run are in
            memory once.
    """
    for module in ("fastapi", "uvicorn"):
        optional(module, _FEATURE, "serve")
    from seqloom.serving.app import make_app
    from seqloom.serving.http import listening, serve_at
    from seqloom.serving.limits import Access, is_loopback
    from seqloom.serving.served import load_models
    from seqloom.training.log import Reporter

    if not runs:
        raise UsageError("there is no run to serve", cure="name one or more: seqloom serve RUN")
    if adapter == ():
        raise UsageError("--adapter names no adapter", cure="for example: --adapter legal=runs/legal")
    if not at.token and not is_loopback(at.host):
        cure = "set SEQLOOM_TOKEN, or leave --host out"
        raise UsageError("other machines may ask only with a token", where=f"--host {at.host}", cure=cure)
    # Other than a training, a server meets ever new shapes, and each has compiled kernels, which oneDNN keeps and torch
    # keeps as well: by default 1,024 of each. What is freed goes back to the system.
    for kept in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(kept, "64")
    reporter = Reporter(0 if quiet else 1)
    with listening(at.host, at.port) as listener:
        models = load_models(runs, reporter.warn, adapter or (), engine=by.engine, int8=by.int8)
        place = f"[{at.host}]" if ":" in at.host else at.host
        names, address = ", ".join(models.by_name), f"http://{place}:{listener.getsockname()[1]}"
        reporter.say(f"serving {names} at {address}/v1; open {address}/ in a browser (Ctrl-C ends)")
        serve_at(make_app(models, Access(at.host, at.token, at.host_name)), listener)
