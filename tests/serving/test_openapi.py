"""The description of the server, and requests that are made up from it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_http import serving

from seqloom.serving.served import Models


def test_the_description_names_the_models_of_each_route(ask):
    described = ask("GET", "/openapi.json").json()
    assert {path for path in described["paths"] if path.startswith("/v1/")} == {
        *("/v1/models", "/v1/models/{name}", "/v1/completions", "/v1/chat/completions", "/v1/embeddings"),
        *("/v1/translate", "/v1/caption", "/v1/classify", "/v1/answer", "/v1/fill", "/v1/forecast"),
    }
    schemas = described["components"]["schemas"]
    assert schemas["Completion"]["properties"]["model"]["enum"] == ["lm", "bytes"]
    assert schemas["Embedding"]["properties"]["model"]["enum"] == ["label", "span", "words", "vectors"]
    assert all("422" not in method["responses"] for each in described["paths"].values() for method in each.values())


@pytest.mark.slow
def test_no_request_makes_the_server_fail(models: Models):
    pytest.importorskip("schemathesis")
    with serving(models) as (url, _, _):
        options = ("--phases", "fuzzing", "--max-examples", "25", "--checks", "not_a_server_error")
        words = ("run", f"{url}/openapi.json", *options)
        result = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *words], capture_output=True, text=True, timeout=280
        )
    assert result.returncode == 0, result.stdout[-3000:]
