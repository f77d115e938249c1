"""`seqloom serve` under load: throughput of many clients, time to the first token, slow senders, clients that go.

    python benchmarks/serve.py
    python benchmarks/serve.py --run runs/novels --clients 32 --tokens 64
    python benchmarks/serve.py --minutes 5 --gone 500
    python benchmarks/serve.py --quick

The server has a process of its own; the clients share another with this script. Without --run, it serves a GPT of
random weights. "ratio" is the throughput of all clients together as a multiple of that of one request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import httpx2

Json = dict[str, Any]
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"


def write_gpt(folder: Path, layers: int, width: int) -> str:
    """A run of a GPT with random weights, which never ends a text by itself."""
    from seqloom.data.batches.stream import StreamConfig
    from seqloom.data.sources.none import NoData
    from seqloom.models.decoder import DecoderOnlyConfig
    from seqloom.nn.transformer import TransformerConfig
    from seqloom.tasks.language_model.task import LanguageModelConfig
    from seqloom.text.tokenizer import BPE

    stack = TransformerConfig(layers=layers, width=width, inner=4 * width, heads=max(2, width // 64))
    model, batches = DecoderOnlyConfig(decoder=stack), StreamConfig(length=512)
    config = LanguageModelConfig(data=NoData(), tokenizer=BPE(size=2000), model=model, batches=batches)
    return common.write_random_run(folder, "gpt", config)


@contextmanager
def served(run: str, threads: int) -> Iterator[tuple[str, str, int, float]]:
    """The address of a server, the name of its model, its process, and the seconds to its first answer."""
    began = time.monotonic()
    words = [sys.executable, "-m", "seqloom", "serve", run, "--port", "0"]
    environment = {**os.environ, "COLUMNS": "500", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = re.search(r"serving (\S+) at (http://\S+)/v1", process.stderr.readline())
        if found is None:
            raise SystemExit("the server did not begin")
        httpx2.get(f"{found[2]}/healthz").raise_for_status()
        try:
            yield found[2], found[1], process.pid, time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)


class Clients:
    """Requests to a server.

    Args:
        http: the connection pool.
        model: the name of its model.
        tokens: the tokens of each text.
    """

    def __init__(self, http: httpx2.AsyncClient, model: str, tokens: int) -> None:
        self.http, self.model, self.tokens, self.asked = http, model, tokens, 0

    def body(self, tokens: int, **more: Any) -> Json:
        """A request whose prompt no other one has."""
        self.asked += 1
        prompt = f"{self.asked} def f(x: int) -> str:"
        return {"model": self.model, "prompt": prompt, "max_tokens": tokens, "min_tokens": tokens, **more}

    async def write(self) -> int:
        """The tokens of a text that was asked for."""
        response = await self.http.post("/v1/completions", json=self.body(self.tokens, temperature=0))
        return int(response.raise_for_status().json()["usage"]["completion_tokens"])

    async def first(self) -> float:
        """The seconds to the first token of a text, which is read to its end."""
        began, taken = time.monotonic(), 0.0
        async with self.http.stream("POST", "/v1/completions", json=self.body(self.tokens, stream=True)) as response:
            async for line in response.aiter_lines():
                taken = taken or (time.monotonic() - began if line.startswith("data: {") else 0.0)
        return taken

    async def at_once(self, clients: int, each: int, ask: Callable[[], Awaitable[Any]]) -> tuple[float, list[Any]]:
        """The seconds in which so many clients are answered, each several times, and the answers."""

        async def client() -> list[Any]:
            return [await ask() for _ in range(each)]

        began = time.monotonic()
        answers = await asyncio.gather(*(client() for _ in range(clients)))
        return time.monotonic() - began, [answer for part in answers for answer in part]

    async def active(self) -> int:
        """The requests that are computed now."""
        return int(re.findall(r"^seqloom_active\{.*\} (\d+)", (await self.http.get("/metrics")).text, re.M)[0])

    async def freed(self) -> float:
        """The seconds until the place of a client that went is free."""
        body = self.body(min(400, 8 * self.tokens), stream=True)
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            await anext(response.aiter_lines())
        began = time.monotonic()
        while await self.active():
            await asyncio.sleep(0.002)
        return time.monotonic() - began

    async def beside(self, slow: int) -> float:
        """The longest of ten answers of /healthz while so many clients send slowly."""
        port = self.http.base_url.port
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(slow)]
        for _, writer in opened:
            writer.write(HEAD)
        longest = 0.0
        for _ in range(10):
            began = time.monotonic()
            (await self.http.get("/healthz")).raise_for_status()
            longest = max(longest, time.monotonic() - began)
        for _, writer in opened:
            writer.close()
        return longest


def resident(process: int) -> float:
    """The megabytes that a process has in memory."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return int(kilobytes[1]) / 1024 if kilobytes else float("nan")


async def measured(url: str, model: str, process: int, options: argparse.Namespace) -> Json:
    """All figures but the first."""
    async with httpx2.AsyncClient(base_url=url, timeout=120) as http:
        clients = Clients(http, model, options.tokens)
        await clients.at_once(options.clients, 1, clients.write)  # kernels are compiled for new shapes
        alone, one = await clients.at_once(1, options.each * 4, clients.write)
        together, many = await clients.at_once(options.clients, options.each, clients.write)
        rates = sum(one) / alone, sum(many) / together
        _, firsts = await clients.at_once(8, options.each * 4, clients.first)
        memory, began = [resident(process)], time.monotonic()
        while len(memory) < 2 or time.monotonic() - began < 60 * options.minutes:
            await clients.at_once(options.clients, options.each, clients.write)
            memory.append(resident(process))
        freed = [await clients.freed() for _ in range(options.gone)]
        return {
            "tokens/s, one request at a time": rates[0],
            f"tokens/s, {options.clients} clients": rates[1],
            "ratio": rates[1] / rates[0],
            "ms to the first token, 8 clients, median": 1000 * sorted(firsts)[len(firsts) // 2],
            "ms to the first token, 8 clients, 99 %": 1000 * sorted(firsts)[int(0.99 * (len(firsts) - 1))],
            f"ms of /healthz beside {options.slow} slow senders, longest": 1000 * await clients.beside(options.slow),
            f"ms until a client that went has no place, longest of {options.gone}": 1000 * max(freed),
            f"MB more in memory after {options.clients * options.each * (len(memory) - 1)} requests": memory[-1]
            - memory[0],
            "MB of it in the second half": memory[-1] - memory[len(memory) // 2],
        }


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="the run of a language model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64, help="of each text")
    parser.add_argument("--each", type=int, default=4, help="requests of each client")
    parser.add_argument("--minutes", type=float, default=0, help="of all clients, at least one request of each")
    parser.add_argument("--gone", type=int, default=5, help="clients that go in the middle of an answer")
    parser.add_argument("--slow", type=int, default=200, help="clients that send slowly")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--json", default="", help="a file for the figures")
    parser.add_argument("--quick", action="store_true", help="sizes of seconds")
    options = parser.parse_args()
    if options.quick:
        options.clients, options.tokens, options.each, options.slow, options.layers, options.width = 3, 5, 1, 7, 1, 16
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or write_gpt(Path(folder), options.layers, options.width)
        with served(run, options.threads) as (url, model, process, seconds):
            figures = {"s from the call to the first answer": seconds}
            figures |= asyncio.run(measured(url, model, process, options))
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value:10,.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures | vars(options), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
