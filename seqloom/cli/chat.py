"""seqloom chat."""

from __future__ import annotations

from typing import Annotated

from seqloom.cli.common import UNSET, Short, config_keys, make_reporter, standard_input


def chat(
    run: str,
    /,
    *overrides: Annotated[str, config_keys("--decoding.temperature 0.7")],
    system: str = "",
    short: Short = UNSET,
) -> None:
    """Talk with a conversational model, one line per turn.

    /new starts a new conversation, Ctrl-D ends the program. Decoding options are config keys:
    --decoding.temperature 0.7, --decoding.seed 3, --decoding.kind greedy.

    Args:
        run: The run directory: a model trained on dialogues, fine-tuned on conversations, or imported with a template.
        system: The system prompt, for a language model.
    """
    from seqloom.data.formats.lines import STANDARD_INPUT, decoded_stream, is_blank
    from seqloom.workflows.chat import Conversation

    typed = standard_input()
    conversation = Conversation(run, (*overrides, *short.keys), make_reporter(quiet=False), system)
    interactive = typed.isatty()
    prompt = "> " if interactive else ""
    print(prompt, end="", flush=True)
    for line in decoded_stream(typed, STANDARD_INPUT):
        if line.strip() == "/new":
            conversation.forget()
        elif not is_blank(line):
            for piece in conversation.reply(line):
                print(piece, end="", flush=True)
            print()
        print(prompt, end="", flush=True)
    if interactive:
        print()
