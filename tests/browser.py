"""A real Chromium for tests, driven over WebDriver with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system_packages import require_program

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--no-first-run",
    "--hide-scrollbars",
)
_START_TIMEOUT_S = 30.0


class Browser:
    """One window of a headless Chromium."""

    def __init__(self, address: str, session: str) -> None:
        self._address = f"{address}/session/{session}"

    def open(self, path: Path) -> None:
        """Load a local file and wait until it is there."""
        self._post("url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: object) -> Any:
        """Return what the body of a JavaScript function returns."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str) -> Any:
        """Return what a script hands to the callback, its last argument."""
        return self._post("execute/async", {"script": script, "args": []})

    def click(self, selector: str) -> None:
        """Scroll to the first element a CSS selector finds and click it, as a user would."""
        self._show(selector)
        self._post(f"element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into the first element a CSS selector finds."""
        self._post(f"element/{self._find(selector)}/value", {"text": text})

    def hover(self, selector: str) -> None:
        """Scroll to the first element a CSS selector finds and move the pointer over it."""
        self._show(selector)
        origin = {_ELEMENT_KEY: self._find(selector)}
        move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}
        self._post("actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def resize(self, *, width: int, height: int) -> None:
        """Set the size of what the page sees, smaller than a window may be included."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, color_scheme: str) -> None:
        """Make the reader prefer ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": color_scheme}
        self.command("Emulation.setEmulatedMedia", {"features": [feature]})

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send a command of the Chrome DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": name, "params": parameters})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of the ``browser`` console or of ``performance`` since the last call."""
        entries: list[dict[str, Any]] = self._post("se/log", {"type": kind})
        return entries

    def screenshot(self) -> bytes:
        """Return what is visible as PNG."""
        with urllib.request.urlopen(f"{self._address}/screenshot", timeout=60) as reply:
            return base64.b64decode(json.load(reply)["value"])

    def _show(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)

    def _find(self, selector: str) -> str:
        found: str = self._post("element", {"using": "css selector", "value": selector})[_ELEMENT_KEY]
        return found

    def _post(self, command: str, body: dict[str, Any]) -> Any:
        return _post(f"{self._address}/{command}", body)


_ELEMENT_KEY = "element-6066-11e4-a52e-4f735466cecf"


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Give a fresh Chromium with its profile in ``profile``, and end it; skip where it is not installed."""
    chromium = require_program("chromium", package="chromium")
    driver = require_program("chromedriver", package="chromium-driver")
    log = profile / "chromedriver.log"
    command = [driver, "--port=0", "--allowed-ips=127.0.0.1", f"--log-path={log}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            address = f"http://127.0.0.1:{_port(process)}"
            options = {
                "binary": chromium,
                "args": [*_FLAGS, f"--user-data-dir={profile / 'data'}"],
            }
            logging = {"browser": "ALL", "performance": "ALL"}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logging}
            session = _post(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Browser(address, session)
            finally:
                _request(f"{address}/session/{session}", method="DELETE")
        finally:
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + _START_TIMEOUT_S
    if process.stdout is None:
        raise RuntimeError("chromedriver has no output")
    for line in process.stdout:
        if "started successfully on port" in line:
            return int(line.rsplit("port", 1)[1].strip(" .\n"))
        if time.monotonic() > deadline:
            break
    raise RuntimeError("chromedriver did not start")


def _post(url: str, body: dict[str, Any]) -> Any:
    return _request(url, method="POST", data=json.dumps(body).encode())


def _request(url: str, *, method: str, data: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["value"]
