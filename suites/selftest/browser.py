"""A real browser for tests of pages: Chromium without a window, told what to do over a pipe."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

# What one command may take; a busy machine needs seconds for the first.
LIMIT_S = 60


def chromium() -> str | None:
    """Chromium on PATH, by any of its names."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One browser with one page.

    Attributes:
        complaints: what the console said and what was thrown since the page was opened.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._profile = tempfile.mkdtemp(prefix="selftest ")
        self._number = 0
        self._received = b""
        self._loaded = False
        self._start()
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def _start(self) -> None:
        # Chromium reads commands from descriptor 3 and answers on 4; a shell puts them there.
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--disable-breakpad", "--disable-crash-reporter"]
        options += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={self._profile}"]
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", script, "bash", chromium(), *options, "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = ""

    def close(self) -> None:
        """End it and everything that it has started."""
        with contextlib.suppress(AssertionError, OSError):
            self._ask("Browser.close")
        try:
            self._process.wait(LIMIT_S)
        finally:
            # Its helpers leave by themselves, but should not be taken at their word.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, page: Path, tail: str = "") -> None:
        """Load a file, with a `?query` or `#hash` behind its name; returns when it has loaded."""
        self.complaints.clear()
        # A page that differs from the last one only in the hash would not be loaded again.
        self._load("about:blank")
        self._load(page.as_uri() + tail)
        self.settle()

    def _load(self, url: str) -> None:
        self._loaded = False
        self.ask("Page.navigate", url=url)
        deadline = time.monotonic() + LIMIT_S
        while not self._loaded:
            self._hear(self._receive(deadline))

    def settle(self) -> None:
        """Wait until the page has been drawn: pictures are made when their width is known."""
        twice = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.evaluate(f"{twice}.then(() => 1)")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, in the page."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.ask("Runtime.evaluate", expression=expression, **options)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def count(self, selector: str) -> int:
        return self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    def text(self, selector: str) -> str:
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def press(self, key: str, code: int = 0) -> None:
        """A key, as a person would press it; returns when the page has been drawn anew."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        both = {"key": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **both, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **both)
        self.settle()

    def look(self, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """The size of the window, and the colours that the user likes."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.settle()

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, to the page."""
        return self._ask(method, self._session, **params)

    def _ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        method = event.get("method")
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(event["params"]))

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._from], [], [], left)[0]
            got = os.read(self._from, 1 << 16) if ready else b""
            if not got:
                raise AssertionError("the browser does not answer")
            self._received += got
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)
