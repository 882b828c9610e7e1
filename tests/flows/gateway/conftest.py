"""A gateway in a thread of this process, with workers of a backend that needs no torch."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from flows.gateway import app, server
from flows.gateway.backends import Launch
from flows.gateway.fleet import Fleet
from flows.gateway.metrics import Metrics
from flows.gateway.prompt_log import PromptLog
from flows.gateway.requests import Fields
from flows.gateway.served_models import ServedModel
from tasks.core.operation import ServeConfig
from tasks.io.runs.tracking import Traces
from tests.flows.conftest import wait_for

READ = dict.fromkeys(("model", "prompt", "messages", "tools", "stream", "stream_options", "temperature", "max_tokens"))
FIELDS: Fields = {"chat/completions": READ | {"logprobs": (False,)}, "completions": READ}
STUB = Path(__file__).with_name("stub_backend.py")


class Gateway:
    """A gateway under test: its HTTP client, and the model of each alias, which tests may change."""

    def __init__(self, url: str, models: dict[str, str]) -> None:
        self.url, self.models = url, models
        self.client = httpx.Client(base_url=url, timeout=30)

    def ask(self, prompt: str, model: str = "champion", **fields: Any) -> httpx.Response:
        return self.client.post("/v1/completions", json={"model": model, "prompt": prompt, **fields})

    def measured(self, name: str) -> float:
        """Return the value of a metric, given by its name with labels; 0 if it is absent."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)

    def counts(self, name: str, value: float) -> None:
        """Assert that a metric reaches a value. Wait for it, because a request is counted after its last byte is sent."""
        wait_for(lambda: self.measured(name) == value, lambda: f"{name} is {self.measured(name)}, not {value}", 20)


def launch(model: ServedModel) -> Launch:
    """Return the command of a stub backend, whose model has only a name. The folder of the test in it tells its processes from those of other tests."""

    def command(socket: Path) -> list[str]:
        return [sys.executable, "-S", "-P", str(STUB), str(socket), model.name, str(Path.cwd())]

    return Launch(model.name, command, 2, fields={} if model.name.startswith("full") else FIELDS)


@contextmanager
def running(
    models: dict[str, str], config: ServeConfig, prompts: PromptLog | None = None, traces: Traces | None = None
) -> Iterator[Gateway]:
    """Run the gateway until the end of the block. `models` may change while it runs, like `models/champion` does."""
    ready, ends = threading.Event(), []

    def resolve(alias: str) -> ServedModel:
        return ServedModel(models[alias], Path("nowhere"), None)

    async def serve(listener: Any) -> None:
        metrics = Metrics()
        sockets = Path("s")
        sockets.mkdir()
        async with Fleet(list(models), resolve, launch, config, metrics, sockets, Path("logs")) as fleet:
            served = uvicorn.Server(server.server_config(app.application(fleet, config, metrics, prompts, traces)))
            ends.append(lambda: setattr(served, "should_exit", True))
            ready.set()
            await served.serve(sockets=[listener])

    with server.listen(0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        assert ready.wait(30)
        gateway = Gateway(f"http://127.0.0.1:{port}", models)
        try:
            yield gateway
        finally:
            gateway.client.close()
            ends[0]()
            thread.join()


@pytest.fixture
def serving() -> Callable[..., Any]:
    return running


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway with small limits and one champion."""
    config = ServeConfig(queue=3, body_bytes=2**16, upload_s=1, timeout_s=3)
    with running({"champion": "ratchet@1"}, config) as made:
        yield made


@pytest.fixture
def patient() -> Iterator[Gateway]:
    """A gateway whose limits no slow machine reaches, except for that of the queue."""
    with running({"champion": "ratchet@1"}, ServeConfig(queue=3)) as made:
        yield made
