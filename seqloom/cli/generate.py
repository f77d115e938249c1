"""seqloom generate."""

from __future__ import annotations

from json import dumps

from seqloom.cli.common import AsJson, Overrides, Quiet, check_typed


def generate(
    run: str,
    /,
    *words: Overrides,
    prompt: str = "",
    length: int = 0,
    seed: int = 0,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    r"""Write on from a prompt with a language model: from the words given, or --prompt; without one a new text.

    --length: the most words of the tokenizer to add; --seed: another seed, another text. Decoding options as config
    keys: --decoding.temperature 0.7 --decoding.top-k 40 --decoding.n-best 3. --json gives a line for each text.
    """
    from seqloom.tasks.language_model import load_generator
    from seqloom.tasks.session import decoding_config, keep_freed_memory
    from seqloom.training.log import Reporter

    keep_freed_memory()
    cut = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    text = prompt or " ".join(words[:cut])
    check_typed([text])
    typed = [*words[cut:], *(["--decoding.max-length", str(length)] if length else [])]
    typed += ["--decoding.seed", str(seed)] if seed else []
    generator = load_generator(run, say=Reporter(0 if quiet else 1).warn)
    generator.config = decoding_config(generator.config, typed)
    for found in generator.generate(text):
        print(dumps({"prompt": text, **vars(found)}, ensure_ascii=False) if json else found.text)
