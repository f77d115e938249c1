"""seqloom config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seqloom.errors import UsageError, nearest

Schema = Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)]


def config(target: str = "", key: str = "", /, *, schema: Schema = None, markdown: bool = False) -> None:
    """List the tasks, explain config keys, or print the complete config of a file.

    Args:
        target: A task, whose keys are listed, or a config file; by default, the tasks are listed.
        key: The key to explain, like training.steps or model.encoder.positions.rotary.
        schema: Write a JSON schema for editors, to FILE or to standard output.
        markdown: Print the help as Markdown, for one task or for all.
    """
    from seqloom import config_help, config_schema
    from seqloom.config import to_toml
    from seqloom.tasks import TASKS, read_config, task_class

    if markdown:
        tasks = [_task(target)] if target else TASKS
        sys.stdout.write(config_help.markdown({task: task_class(task) for task in tasks}))
    elif schema is not None:
        if len(schema) > 1 or not target:
            problem = "--schema needs a task or a config before it, and takes one file at most"
            raise UsageError(problem, cure="seqloom config translate --schema FILE")
        task = _task(target)
        if schema:
            write_schema(task, Path(schema[0]))
        else:
            sys.stdout.write(config_schema.schema_text(task, task_class(task)))
    elif not target:
        width = max(map(len, TASKS)) + 2
        for task in TASKS:
            print(f"{task:{width}}{config_help.describe(task_class(task)).summary}")
    elif target in TASKS:
        print(config_help.help_on(task_class(target), key))
    else:
        _task(target)
        loaded = read_config(target)
        print(config_help.help_on(type(loaded), key, loaded) if key else to_toml(loaded).rstrip("\n"))


def write_schema(task: str, path: Path) -> None:
    """Writes the schema of a task's configs. Raises UsageError if the file exists with different content."""
    from seqloom.config_schema import schema_text
    from seqloom.files import write_text
    from seqloom.tasks import task_class

    text = schema_text(task, task_class(task))
    if not path.exists():
        write_text(path, text)
    elif path.read_bytes() != text.encode():
        cure = "remove it, or choose another name"
        raise UsageError("exists already with different content", where=str(path), cure=cure)


def _task(target: str) -> str:
    """The task with this name, or the task of this config file."""
    from seqloom.config import read_tree
    from seqloom.tasks import TASKS, task_of

    if target in TASKS:
        return target
    if not Path(target).exists():
        raise UsageError("is neither a task nor a file", where=target, cure=nearest(target, TASKS))
    return task_of(*read_tree(target))
