"""seqloom serve at the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from calls import Call, call

from seqloom.serving.http import listening
from seqloom.serving.served import named

__all__ = ["call"]


def test_calls_that_are_wrong(call: Call, runs: Path):
    call("serve").refused(2, "no run to serve")
    call("serve", runs / "nobody").refused(2, "no such run")
    call("serve", runs / "lm", "--host", "0.0.0.0").refused(2, "token", "SEQLOOM_TOKEN")
    call("serve", runs / "lm", f"lm={runs / 'mt'}", "--port", "0").refused(2, "two models have the name 'lm'", "NAME=")
    with listening("127.0.0.1", 0) as listener:
        call("serve", runs / "lm", "--port", listener.getsockname()[1]).refused(2, "cannot listen", "--port")


def test_a_missing_extra_is_named(call: Call, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    call("serve", "lm").refused(2, "needs the extra 'serve'", "pip install 'seqloom[serve]'")


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_end(runs: Path):
    words = [sys.executable, "-m", "seqloom", "serve", str(runs / "lm"), f"de={runs / 'mt'}", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"serving lm, de at (http://127.0.0.1:\d+/v1)", line)
        assert match, line
        assert [model["id"] for model in httpx2.get(f"{match[1]}/models").json()["data"]] == ["lm", "de"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_run_and_an_adapter_have_the_name_of_their_path_or_another(tmp_path):
    assert named(str(tmp_path / "legal")) == ("legal", str(tmp_path / "legal"))
    assert named(f"mail={tmp_path / 'mail.safetensors'}") == ("mail", str(tmp_path / "mail.safetensors"))
    assert named("mail.safetensors") == ("mail.safetensors", "mail.safetensors")
