"""Batches decoded by several processes of one thread each, side by side: more than threads bring to a small model.

Threads of one product meet after every product, and threads of Python wait for each other. Forked processes share the
weights, and what one of them gives for a batch has the very bits that one thread gives.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

import torch

from seqloom.errors import UsageError

CAN_FORK = sys.platform == "linux"
_TOKENIZERS = "TOKENIZERS_PARALLELISM"


class Streams:
    """Processes with the model as it is now. They end when they are closed, when one fails, and with this process.

    Args:
        work: what each does with the arguments of a call.
        count: the number of processes.

    Raises:
        OSError: there is no room for so many.
    """

    def __init__(self, work: Callable[..., Any], count: int) -> None:
        self._processes, self._connections = list[Any](), list[Any]()
        try:
            with _forking() as mask:
                for _ in range(count):
                    self._fork(work, mask)
        except BaseException:
            self.close()
            raise

    def _fork(self, work: Callable[..., Any], mask: Any) -> None:
        context = get_context("fork")
        ours, theirs = context.Pipe()
        self._connections.append(ours)
        process = context.Process(target=_serve, args=(work, theirs, self._connections, mask), daemon=True)
        process.start()
        self._processes.append(process)
        theirs.close()

    def __call__(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the work gives for each call, in their order; whoever is ready takes the next.

        Raises what the work raises, and UsageError where a process has ended.
        """
        try:
            answers = self._answers(calls)
            for error in (error for _, error in answers.values() if error is not None):
                raise error
        except BaseException:
            self.close()
            raise
        return [answers[i][0] for i in range(len(calls))]

    def _answers(self, calls: Sequence[tuple[Any, ...]]) -> dict[int, tuple[Any, BaseException | None]]:
        """The result or the error of each call, by its number; after an error no others."""
        answers, waiting = dict[int, Any](), deque(enumerate(calls))
        try:
            for connection in self._connections[: len(calls)]:
                connection.send(waiting.popleft())
            while len(answers) < len(calls):
                ready: Any = wait(self._connections)
                for connection in ready:
                    number, result, error = connection.recv()
                    answers[number] = result, error
                    if error is not None:
                        return answers
                    if waiting:
                        connection.send(waiting.popleft())
        except (EOFError, OSError):
            raise self._loss() from None
        return answers

    def _loss(self) -> UsageError:
        for process in self._processes:
            process.join(0.1)  # until it is known how one ended
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        how = f"by {signal.Signals(-codes[0]).name}" if codes and codes[0] < 0 else "before its time"
        cure = "if there was too little memory, decode fewer texts at a time, or set OMP_NUM_THREADS=1"
        return UsageError(f"a process that decoded texts was ended {how}", cure=cure)

    def close(self) -> None:
        """Ends the processes, whatever they are doing; to be called again where it is interrupted."""
        for connection in self._connections:
            connection.close()
        while self._processes:
            self._processes[-1].kill()
            self._processes[-1].join()
            self._processes.pop()


def forked(work: Callable[..., Any], count: int) -> Streams | None:
    """Streams; None where there is no room for them, or the system cannot fork what has used threads."""
    if not CAN_FORK:
        return None
    try:
        return Streams(work, count)
    except OSError:
        return None


@contextmanager
def _forking() -> Iterator[Any]:
    """While processes are forked, Ctrl-C waits, and what warns of threads, which the processes do not use, is silent.

    Yields the mask of signals from before.
    """
    mask, threads = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}), os.environ.get(_TOKENIZERS)
    os.environ[_TOKENIZERS] = "false"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            yield mask
    finally:
        os.environ.pop(_TOKENIZERS)
        os.environ.update({} if threads is None else {_TOKENIZERS: threads})
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(work: Callable[..., Any], connection: Any, others: Sequence[Any], mask: Any) -> None:
    """Answers calls until nobody is left to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it, too, ends this process
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for other in others:
        other.close()
    torch.set_num_threads(1)  # those of the parent are not in this process
    with suppress(EOFError, OSError):
        while True:
            number, call = connection.recv()
            try:
                result, failure = work(*call), None
            except BaseException as error:
                error.add_note(traceback.format_exc())
                result, failure = None, _sendable(error)
            connection.send((number, result, failure))


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
