"""The tests of OpenAI's own client, unchanged, against a server here: those that ask for what is offered pass.

They are in its source distribution. In an empty folder:

    pip download openai==3.57.0 --no-deps --no-binary :all: && tar xzf openai-3.57.0.tar.gz && cd openai-3.57.0
    python -m venv .venv && .venv/bin/pip install 'openai[aiohttp]==3.57.0' pytest pytest-asyncio rich
    export OPENAI_PYTHON_TESTS=$PWD
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_http import serving

from seqloom.serving.served import load_models

FOLDER = os.environ.get("OPENAI_PYTHON_TESTS", "")
NAMES = {"gpt-3.5-turbo-instruct": "lm", "gpt-6-astra": "lm", "text-embedding-3-small": "words"}
"""The models that they ask for, and the run under that name."""
FILES = ("test_completions", "chat.test_completions", "test_models", "test_embeddings")
NOT_OFFERED = {
    # penalties, tools, audio and more, all in one request; completions that are kept; models that are deleted
    "test_completions": "with_all_params",
    "chat.test_completions": "with_all_params|(?<!path_params)_(retrieve|update|list|delete)$",
    "test_models": "(?<!path_params)_delete$",
    # `dimensions`; and the client asks for Base64 unless told, which its own strict validation then refuses
    "test_embeddings": r"with_all_params|_create\[(strict|aiohttp)\]",
}


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="NOT TESTED: OPENAI_PYTHON_TESTS, the source distribution of openai, is not set")
def test_those_that_ask_for_what_is_offered_pass(runs: Path, tmp_path: Path):
    models = load_models([f"{name}={runs / run}" for name, run in NAMES.items()], pytest.fail)
    paths = [f"tests/api_resources/{name.replace('.', '/')}.py" for name in FILES]
    options = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={tmp_path / 'tests.xml'}")
    try:
        with serving(models) as (url, _, _):
            environment = os.environ | {"TEST_API_BASE_URL": f"{url}/v1", "PYTHONPATH": ""}
            words = [f"{FOLDER}/.venv/bin/python", "-m", "pytest", *options, *paths]
            said = subprocess.run(words, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=280)
    finally:
        models.close()
    cases = [*ElementTree.parse(tmp_path / "tests.xml").iter("testcase")] if (tmp_path / "tests.xml").exists() else []
    assert len(cases) > 200, said.stdout[-3000:] + said.stderr[-3000:]
    outcomes = {(place_of(case), case.attrib["name"]): len(case) == 0 for case in cases}
    offered = {each: re.search(NOT_OFFERED[each[0][0]], without_kind(*each)) is None for each in outcomes}
    assert outcomes == offered


def place_of(case: ElementTree.Element) -> tuple[str, str]:
    """The file and the class of a test."""
    _, _, name = case.attrib["classname"].partition("api_resources.")
    file, _, group = name.rpartition(".")
    return file, group


def without_kind(place: tuple[str, str], name: str) -> str:
    """The name of a test, without the kind of the client where that decides nothing."""
    return name if place[0] == "test_embeddings" else name.partition("[")[0]
