"""The gateway's process: its socket, its workers, and the end of both."""

import asyncio
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from flows.execution import ports, workspace
from flows.gateway import app, backends, prompt_log, served_models
from flows.gateway.fleet import Fleet
from flows.gateway.metrics import Metrics
from tasks import configuration
from tasks.io.runs import tracking
from tasks.io.system import progress

FOLDER = workspace.SCRATCH / "serve"
GRACE_S = 5
"""Seconds that answers in progress have to finish after Ctrl-C."""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: a client loses a request if the connection closes just as it is sent."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the gateway, which ends its workers too."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def run(aliases: Sequence[str], port: int) -> None:
    """Serve until Ctrl-C. No process is left running, not even if this one is killed.

    Raises RuntimeError if the port is taken or a model cannot be loaded, ValueError if one does not exist.
    """
    with listen(port) as listener, suppress(asyncio.CancelledError):
        asyncio.run(_serve(aliases, port, listener))


async def _serve(aliases: Sequence[str], port: int, listener: socket.socket) -> None:
    config, metrics = configuration.load(), Metrics()
    prompts, traces = prompt_log.opened(config), tracking.traces("serve")
    choose = partial(backends.choose, config=config)
    sockets = FOLDER / str(port)
    shutil.rmtree(sockets, ignore_errors=True)  # left by a killed gateway; its port is ours now
    sockets.mkdir(parents=True, mode=0o700)
    work = asyncio.current_task()
    assert work
    _on_signals(work.cancel)
    try:
        async with Fleet(
            aliases, served_models.resolve, choose, config.serve, metrics, sockets, workspace.LOGS
        ) as fleet:
            server = _Server(server_config(app.application(fleet, config.serve, metrics, prompts, traces)))
            _on_signals(partial(setattr, server, "should_exit", True))
            served = ", ".join(f"{alias} ({model.name})" for alias, model in fleet.served.items())
            progress.say(f"http://{ports.HOST}:{port}/v1 serves {served}. Ctrl-C ends it.")
            if prompts:
                progress.say(f"Prompts are written to {config.monitor.incoming} (serve.log_prompts).")
            await server.serve(sockets=[listener])
    finally:
        if traces:
            traces.end()
        shutil.rmtree(sockets, ignore_errors=True)
        progress.say("Serving has stopped.")


def server_config(application: ASGIApp) -> uvicorn.Config:
    """Return the configuration of the server. It logs nothing itself: the application reports errors to clients and the terminal."""
    return uvicorn.Config(
        application,
        lifespan="off",
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


def _on_signals(end: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the port. Raises RuntimeError, which names the process that has it."""
    return ports.listen(port, "ratchet serve")
