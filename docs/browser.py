"""A headless Chromium that opens pages for tests and pictures, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")
PATIENCE_S = 120.0


class Page:
    """One page of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._session = ""
        self.errors: list[str] = []
        """Errors and warnings of the console, and actions of the page that the browser blocked."""
        self._events: list[str] = []

    def attach(self) -> None:
        """Open a tab and subscribe to its events."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result. Raises RuntimeError with the browser's own message."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression on the page, awaited if it is a promise. Raises RuntimeError if it throws."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def show(self, width: int, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Set the size of the window and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=scheme)

    def open(self, address: str) -> None:
        """Open an address, and wait until the page has loaded."""
        self._events.clear()
        self.call("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._events:
            self._note(json.loads(self._socket.recv(timeout=PATIENCE_S)))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a picture of the window, or of the whole page: WebP if the file's name ends in it, else PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = (
            {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}}
            if whole
            else {}
        )
        form = {"format": "webp", "quality": 80} if path.suffix == ".webp" else {"format": "png"}
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **form, **clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def printed(self, path: Path) -> None:
        """Write the page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(value.get("value", value.get("description"))) for value in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".rstrip())
        elif method == "Network.requestWillBeSent" and not re.match(
            r"(file|data|blob|about):", params["request"]["url"]
        ):
            self.errors.append(f"asked for {params['request']['url']}")


@contextmanager
def opened() -> Iterator[Page]:
    """Start the browser and yield a page of it. Raises FileNotFoundError if no browser is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise FileNotFoundError(f"There is none of {', '.join(NAMES)}. Debian's package is `chromium`.")
    with tempfile.TemporaryDirectory() as profile, (Path(profile) / "log").open("w+") as log:
        command = [program, *FLAGS, f"--user-data-dir={profile}/user", "about:blank"]
        browser = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)
        try:
            with connect(_address(Path(profile) / "log", browser), max_size=None, open_timeout=PATIENCE_S) as socket:
                page = Page(socket)
                page.attach()
                yield page
        finally:
            browser.terminate()
            browser.wait(timeout=30)


def _address(log: Path, browser: "subprocess.Popen[bytes]") -> str:
    """Return the address on which the browser listens, read from its log."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and browser.poll() is None:
        if match := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace")):
            return match[1]
        time.sleep(0.1)
    raise RuntimeError(f"The browser did not start: {log.read_text(errors='replace')[-500:]}")
