"""A real Chromium, driven over its own pipe: pages are opened, clicked, typed into, read and pictured."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "Home": 36, "End": 35, " ": 32, "ArrowDown": 40}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}


class Page:
    """A tab. What is said on its console is in `said`, and what it loads in `loaded`.

    Each call waits for its answer; `until` waits for what the page does by itself. A `password` is what the browser
    answers where a server asks for one, as a person would.
    """

    def __init__(self, write: int, read: int, password: str = "") -> None:
        self._write, self._read, self._buffer, self._number, self._session = write, read, b"", 0, ""
        self.said, self.loaded = list[str](), list[str]()
        self._password, self.asked_for_password = password, 0
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")
        if password:
            self("Fetch.enable", handleAuthRequests=True)

    def __call__(self, method: str, **parameters: Any) -> Any:
        """The answer to a command of the DevTools protocol."""
        number = self._send(method, parameters)
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        command |= {"sessionId": self._session} if self._session else {}
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def _message(self) -> Any:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], 60)[0], "the browser does not answer"
            self._buffer += os.read(self._read, 1 << 16)
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        event = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.said.append(str(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.said.append(str(event["args"]))
            case "Log.entryAdded":
                self.said.append(str(event["entry"]))
            case "Network.requestWillBeSent":
                self.loaded.append(event["request"]["url"])
            case "Fetch.authRequired":
                self.asked_for_password += 1
                answer = {"response": "ProvideCredentials", "username": "me", "password": self._password}
                self._send("Fetch.continueWithAuth", {"requestId": event["requestId"], "authChallengeResponse": answer})
            case "Fetch.requestPaused":
                self._send("Fetch.continueRequest", {"requestId": event["requestId"]})
        return message

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens an address in a window of a size."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=scheme)
        self("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def forget(self) -> None:
        """Leaves what is open, which may still ask for something, and then forgets what was said and loaded."""
        self.open("about:blank")
        self.said.clear()
        self.loaded.clear()

    def js(self, expression: str) -> Any:
        """The value of an expression, which may be a promise."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> None:
        """Waits until an expression is true; a node is."""
        end = time.monotonic() + seconds
        while not self.js(f"!!({expression})"):
            assert time.monotonic() < end, f"{expression} is not so after {seconds} s"
            time.sleep(0.02)

    def text(self, path: str) -> str:
        """What is read at the first node of a path."""
        return str(self.js(f"document.querySelector({json.dumps(path)}).innerText"))

    def click(self, path: str, which: int = 0) -> None:
        """Clicks the middle of a node with the mouse."""
        node = f"document.querySelectorAll({json.dumps(path)})[{which}]"
        self.until(f"!!{node}")
        box = f"(n => {{ n.scrollIntoView({{block: 'center'}}); return n.getBoundingClientRect(); }})({node})"
        x, y = self.js(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({box})")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, *names: str) -> None:
        """Presses keys one after the other: Enter, Tab, ArrowRight, a, ..."""
        for name in names:
            more = {"text": "\r" if name == "Enter" else name} if name in ("Enter", " ") or len(name) == 1 else {}
            code = KEYS.get(name, ord(name.upper()) if len(name) == 1 else 0)
            self("Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=code, **more)
            self("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Types a text where the focus is."""
        self("Input.insertText", text=text)

    def choose(self, path: str, value: str) -> None:
        """Chooses from a list."""
        node = f"document.querySelector({json.dumps(path)})"
        self.js(f"(n => {{ n.value = {json.dumps(value)}; n.dispatchEvent(new Event('change')); }})({node})")

    def picture(self, path: Path) -> None:
        """Saves what the whole page looks like."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browsing(folder: Path, password: str = "") -> Iterator[Page]:
    """A page of a browser that keeps its profile in a folder, and ends with the block."""
    assert CHROMIUM is not None
    theirs, ours = os.pipe(), os.pipe()  # (what it reads, what we write), (what we read, what it writes)
    # It reads at 3 and writes at 4; the shell moves the pipes there, whose own numbers may be these.
    moved = 'exec "$0" "$@" 3<&"$IN" 4>&"$OUT"'
    command = ["bash", "-c", moved, CHROMIUM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    numbers = {"IN": str(theirs[0]), "OUT": str(ours[1])}
    process = subprocess.Popen(
        command, pass_fds=(theirs[0], ours[1]), env=os.environ | numbers, stdout=subprocess.DEVNULL, stderr=-3
    )
    os.close(theirs[0])
    os.close(ours[1])
    try:
        yield Page(theirs[1], ours[0], password)
    finally:
        process.terminate()
        process.wait(30)
        os.close(theirs[1])
        os.close(ours[0])
