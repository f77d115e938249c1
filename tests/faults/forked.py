"""Command lines in forked copies of one process that has imported everything: with limits on time and memory.

Run as a program it reads a JSON object per line: {"words": [...], "folder": "..."}; it answers with
{"code", "out", "err"}; "code" is -14 for a command that ran out of time, 99 for one that ended in a traceback.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS, GIGABYTES = 10, 4


@contextmanager
def forked() -> Iterator[Forked]:
    """A process that runs command lines."""
    process = Forked()
    try:
        yield process
    finally:
        process.close()


class Forked:
    """The process that is forked."""

    def __init__(self) -> None:
        here = Path(__file__).parent
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEQLOOM_KEEP_MEMORY": "0", "COLUMNS": "300"}
        environment["TOKENIZERS_PARALLELISM"] = "false"  # whose threads a forked process does not have
        environment["PYTHONPATH"] = os.pathsep.join([str(here.parents[1]), environment.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(here / "forked.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )

    def call(self, words: Sequence[str], folder: Path) -> dict[str, Any]:
        """The outcome of a command line in a folder."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"words": list(words), "folder": str(folder)}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def _attempt(words: list[str], folder: str) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _run(words, folder, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


def _run(words: list[str], folder: str, out: int, err: int) -> None:
    from seqloom.cli import main

    code: Any = 0
    try:
        os.chdir(folder)
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
            os.dup2(source, target)
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + GIGABYTES * 10**9,) * 2)
        signal.alarm(SECONDS)
        main(words)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 98)


def _serve() -> None:
    import torch

    import seqloom.workflows.check
    import seqloom.workflows.compare
    import seqloom.workflows.export
    import seqloom.workflows.microscope  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(_attempt(question["words"], question["folder"])), flush=True)


if __name__ == "__main__":
    _serve()
