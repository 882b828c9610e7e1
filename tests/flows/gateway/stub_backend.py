"""A backend for tests without torch, `python stub_backend.py SOCKET NAME FOLDER`, which does what the prompt says:

    hold FILE      answer when the file exists
    sleep S        answer after S seconds
    die            end the process
    cut, fault     end the process, or report an error, in the middle of a stream
    detail, text   fail with an error in the form of FastAPI, or of a bare server
    named          refuse a field by its name
    long           stream without an end

The answer to any other prompt is the name of the model and the prompt. If the request has tools, it is a call of the first. With `logprobs`, each
answer has them. Like `transformers serve`, it refuses `top_k` and the field `store`, which only the gateway knows.
"""

import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

SOCKET, NAME = sys.argv[1:3]


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if request["model"] != NAME:
            return self.answer(400, {"detail": f"Server is pinned to '{NAME}'"})
        if NAME.startswith("broken"):
            return self.answer(500, {"detail": "weights are torn"})
        if unexpected := {"store", "top_k"} & request.keys():
            return self.answer(422, {"detail": f"Unexpected fields in the request: {unexpected}"})
        prompt = request["prompt"] if "prompt" in request else request["messages"][-1]["content"]
        word, _, rest = str(prompt).partition(" ")
        while word == "hold" and not Path(rest).exists():
            time.sleep(0.02)
        if word == "sleep":
            time.sleep(float(rest))
        if word == "die":
            os._exit(1)
        if word == "detail":
            return self.answer(422, {"detail": "Unexpected fields in the request: {'top_k'}"})
        if word == "named":
            return self.answer(400, {"detail": "temperature: it is too hot"})
        if word == "text":
            return self.answer(500, "Internal Server Error")
        if request.get("stream"):
            return self.stream(word, request)
        return self.answer(200, self.completion(f"{NAME}: {prompt}", request))

    def completion(self, text: str, request: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        choice = {"text": text, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "index": 0}
        if request.get("tools"):
            function = {"name": request["tools"][0]["function"]["name"], "arguments": '{"zone": "UTC"}'}
            calls = [{"index": 0, "id": "c1", "type": "function", "function": function}]
            choice["message"] = choice["delta"] = {"role": "assistant", "content": None, "tool_calls": calls}
            choice["finish_reason"] = "tool_calls"
        if request.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": NAME, "logprob": -0.25, "bytes": None, "top_logprobs": []}]}
        return {"model": NAME, "choices": [choice], "usage": usage}

    def answer(self, status: int, value: Any) -> None:
        content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, word: str, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        pieces = [json.dumps({"model": NAME, "choices": [{"delta": {"content": NAME}}]})] * 3
        for piece in pieces:
            self.chunk(f"data: {piece}\n\n".encode())
            time.sleep(0.005)
            if word == "cut":
                os._exit(1)
            if word == "fault":
                self.chunk(b'data: {"err')
                time.sleep(0.05)
                self.chunk(b'or": "weights are torn"}\n\n')
                self.chunk(b"")
                return
        while word == "long":
            self.chunk(b"data: " + b"x" * 65536 + b"\n\n")
        last = self.completion("", request)
        usage = {"choices": [], "usage": last.pop("usage"), "model": NAME}
        counted = [usage] if request.get("stream_options", {}).get("include_usage") else []
        for piece in (last, *counted):
            self.chunk(f"data: {json.dumps(piece)}\n\n".encode())
        self.chunk(b"")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()


if __name__ == "__main__":
    with Server(SOCKET, Handler) as server:
        server.serve_forever(0.05)
