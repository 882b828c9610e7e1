"""One process of a backend: started under a supervisor, asked over its socket, ended with the gateway."""

import asyncio
import os
import subprocess
from pathlib import Path

import httpx

from flows.execution import supervisor
from flows.gateway import errors
from flows.gateway.backends import Launch
from tasks.io.system import logs

START_S = 900.0
"""Seconds that a worker may take to answer for the first time, as a large model is read from disk."""
PACE_S = 0.1
NOTICE_LOOKS = 10


class Worker:
    """A process that serves one model or several, with the number of its running requests."""

    def __init__(self, launch: Launch, socket: Path, log: Path) -> None:
        self.launch = launch
        self.in_flight = 0
        self._socket, self._log, self._log_start = socket, log, 0
        self._process: subprocess.Popen[bytes] | None = None
        transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_connections=None))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://worker", timeout=None, trust_env=False)

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_room(self) -> bool:
        """True if a further request would be computed at once."""
        return self.is_alive and self.in_flight < self.launch.concurrency

    async def start(self, name: str) -> None:
        """Start the process for a model, and return when it answers. Raises RuntimeError with its last output if it ends before."""
        self._socket.unlink(missing_ok=True)
        with logs.append(self._log) as file:
            self._log_start = file.tell()
            self._process = supervisor.start(
                self.launch.command(self._socket),
                env=os.environ | self.launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            async with asyncio.timeout(START_S):
                while not await self._answers():
                    if not self.is_alive:
                        raise RuntimeError(f"{name} could not be loaded: {self.last_words()}")
                    await asyncio.sleep(PACE_S)
        except TimeoutError:
            raise RuntimeError(f"{name} did not answer within {START_S:.0f} s. See {self._log}.") from None

    async def warm(self, name: str) -> None:
        """Ask for one token of a model, so that it is known to answer before others ask. Raises RuntimeError if it does not."""
        try:
            body = {"model": name, "prompt": "1", "max_tokens": 1}
            answer = await self.client.post("/v1/completions", json=body, timeout=START_S)
        except httpx.TransportError:
            raise RuntimeError(f"{name} did not answer its first request: {self.last_words()}") from None
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(str(errors.from_backend(answer.status_code, answer.content, name)))

    def last_words(self) -> str:
        """Return the last line that the process wrote."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), f"it printed nothing; see {self._log}")

    async def has_ended(self) -> bool:
        """Return True if the process has ended. The connection breaks at once, but the supervisor may take a moment to end."""
        for _ in range(NOTICE_LOOKS):
            if not self.is_alive:
                return True
            await asyncio.sleep(PACE_S)
        return False

    async def stop(self) -> None:
        """End the process and all its descendants."""
        await self.client.aclose()
        if self._process is not None:
            await asyncio.to_thread(supervisor.stop, [self._process])
        self._socket.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        try:
            return (await self.client.get("/health", timeout=5)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
