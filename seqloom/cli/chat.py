"""seqloom chat."""

from __future__ import annotations

import sys

from seqloom.cli.common import Overrides


def chat(run: str, /, *overrides: Overrides, system: str = "") -> None:
    """Talk with a model of conversations: each line is a turn and is answered. /new forgets what was said, Ctrl-D ends.

    Decoding options as config keys: --decoding.temperature 0.7, --decoding.seed 3, --decoding.kind greedy.

    Args:
        system: what a language model is told before the conversation begins.
    """
    from seqloom.data.formats.lines import decoded_stream
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.chat import Conversation

    keep_freed_memory()
    conversation = Conversation(run, overrides, Reporter(1), system)
    asked = sys.stdin.isatty()
    prompt = "> " if asked else ""
    print(prompt, end="", flush=True)
    for line in decoded_stream(sys.stdin.buffer, "standard input"):
        if line.strip() == "/new":
            conversation.forget()
        elif line.strip():
            for piece in conversation.reply(line):
                print(piece, end="", flush=True)
            print()
        print(prompt, end="", flush=True)
    if asked:
        print()
