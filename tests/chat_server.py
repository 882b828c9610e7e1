"""An HTTP server on loopback with OpenAI's API and a list of models, which can fail in several ways."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SILENCE_S = 30.0
"""Seconds for which the fault `silent` sends nothing, unless the client closes earlier."""
FAULTS = ("429", "500", "cut", "malformed", "silent")
Reply = Callable[[dict[str, Any]], str | tuple[str, str | None]]
"""Returns the answer to a request: its text, and the finish reason if it is not `stop`."""


class ChatServer(ThreadingHTTPServer):
    """Answers by `reply`. `fault` returns the name of a fault for a request and the number of times that it came before, or None."""

    daemon_threads = True

    def __init__(self, reply: Reply, fault: Callable[[dict[str, Any], int], str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.fault = reply, fault
        self.models: Any = [{"id": "m", "object": "model", "created": 1, "owned_by": "stand-in"}]
        self.asked: list[dict[str, Any]] = []
        self.paid: Counter[str] = Counter()
        """Number of whole answers to each request. An answer is counted before it is sent, so that a client that has read it finds it counted."""
        self.failed: Counter[str] = Counter()
        """Number of faults, by their names."""
        self.waited_out = 0
        """Number of silences during which the client did not close."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        bodies = {"/v1/models": {"object": "list", "data": self.server.models}, "/version": {"version": "1.0"}}
        self.send(200 if self.path in bodies else 404, json.dumps(bodies.get(self.path, {"error": "not here"})))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = json.dumps(request, sort_keys=True)
        with self.server.lock:
            before = sum(json.dumps(other, sort_keys=True) == content for other in self.server.asked)
            self.server.asked.append(request)
            fault = self.server.fault(request, before)
            reply = "" if fault else self.server.reply(request)
            (self.server.failed if fault else self.server.paid)[fault or content] += 1
        text, reason = (reply, "stop") if isinstance(reply, str) else reply
        written = {"message": {"content": text}} if self.path.endswith("/chat/completions") else {"text": text}
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        body = json.dumps({"choices": [{**written, "finish_reason": reason}], "usage": usage})
        if fault.isdigit():
            return self.send(int(fault), "{}")
        if fault == "silent":
            return self.silence()
        if fault == "malformed":
            return self.send(200, body[: len(body) // 2])
        if fault == "cut":
            return self.send(200, body[: len(body) // 2], length=len(body))
        return self.send(200, body)

    def silence(self) -> None:
        self.connection.settimeout(SILENCE_S)
        try:
            with suppress(ConnectionResetError):
                self.connection.recv(1)  # the client sends nothing more: this returns when it closes
        except TimeoutError:
            self.server.waited_out += 1

    def send(self, status: int, text: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(length or len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(
    reply: Reply, fault: Callable[[dict[str, Any], int], str] = lambda request, before: ""
) -> Iterator[ChatServer]:
    """Run the server until the end of the block."""
    with ChatServer(reply, fault) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
