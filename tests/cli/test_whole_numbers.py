"""Options that are whole numbers take no fractions."""

from __future__ import annotations

import typing

import pytest
from calls import Call

from seqloom.cli.app import app

OPTIONS = [
    (command, argument.name)
    for command in app
    if not command.startswith("-")
    for argument in app[command].assemble_argument_collection()
    if int in (argument.hint, *typing.get_args(argument.hint))
]


def test_all_are_found():
    assert {("eval", "--shots"), ("generate", "--length"), ("lineage", "--seeds"), ("serve", "--port")} <= {*OPTIONS}


@pytest.mark.parametrize(("command", "option"), OPTIONS)
@pytest.mark.parametrize("text", ["1.5", "1.0", "1e3"])
def test_fractions_are_refused(call: Call, command: str, option: str, text: str):
    words = {"demo": (), "words": ("run", "similar")}.get(command, ("run",))
    result = call(command, *words, option, text)
    assert result.code == 2
    assert f'Invalid value for {option}: unable to convert "{text}" into int.' in result.err
