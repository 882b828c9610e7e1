"""Manage the fleet: the model of each alias, the queue of its requests, and the switch to another model without losing a request."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flows.gateway.backends import Launch
from flows.gateway.errors import ApiError
from flows.gateway.metrics import Metrics
from flows.gateway.requests import Fields
from flows.gateway.served_models import CHAMPION, ServedModel
from flows.gateway.worker import Worker
from tasks.core.operation import ServeConfig
from tasks.io.system import process, progress

PACE_S = 0.25
"""Seconds between two checks of the champion and of the workers."""
RETRY_S = 15.0
"""Seconds until a switch that failed is tried again."""


@dataclass
class Line:
    """An alias: the model it leads to now, the worker of that model, and the number of requests that run or wait."""

    alias: str
    model: ServedModel
    worker: Worker
    length: int = 0


class Fleet:
    """Workers of all aliases while its block is open."""

    def __init__(
        self,
        aliases: Iterable[str],
        resolve: Callable[[str], ServedModel],
        choose: Callable[[ServedModel], Launch],
        config: ServeConfig,
        metrics: Metrics,
        sockets: Path,
        logs: Path,
    ) -> None:
        self._aliases, self._resolve, self._choose = list(dict.fromkeys(aliases)), resolve, choose
        self._config, self._metrics, self._sockets, self._logs = config, metrics, sockets, logs
        self._lines: dict[str, Line] = {}
        self._workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._starting = asyncio.Lock()  # only one model at a time is read from disk
        self._started = 0

    async def __aenter__(self) -> Self:
        try:
            for alias in self._aliases:
                model = self._resolve(alias)
                self._lines[alias] = Line(alias, model, await self._ready_worker(model))
                self._metrics.switched(alias, None, model.name)
        except BaseException:
            await self._stop_all()
            raise
        for line in self._lines.values():
            self._spawn(self._follow(line))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_all()

    @property
    def served(self) -> Mapping[str, ServedModel]:
        """The models by alias."""
        return {alias: line.model for alias, line in self._lines.items()}

    @property
    def is_healthy(self) -> bool:
        """True if every alias has a running worker."""
        return all(line.worker.is_alive for line in self._lines.values())

    def alias_of(self, name: str) -> str:
        """Return the alias of a model that a request names by alias or by served name. Raises ApiError if there is none."""
        if name in self._lines:
            return name
        # The champion comes last, as its model may change.
        for line in sorted(self._lines.values(), key=lambda line: line.alias == CHAMPION):
            if line.model.name == name:
                return line.alias
        raise self._not_served(name)

    def fields(self, alias: str) -> Fields:
        """Return the fields that the backend of an alias honours."""
        return self._lines[alias].worker.launch.fields

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[tuple[ServedModel, Worker]]:
        """Wait until the worker of an alias or a served name has room, and occupy a place in it.

        The model of an alias is looked up when the wait is over, so that no request waits for a model that is being replaced. Raises
        ApiError if too many requests wait already, or if no model is served by this name any more.
        """
        line = self._lines[self.alias_of(name)]
        if line.length >= self._config.queue:
            raise ApiError(
                429, f"{line.length} requests run or wait for {line.alias!r}. Ask again later.", code="queue_full"
            )
        self._lengthen(line, 1)
        try:
            while not line.worker.has_room:
                await self._changed.wait()
            if name not in (line.alias, line.model.name):
                raise self._not_served(name)
            model, worker = line.model, line.worker
            worker.in_flight += 1
            try:
                yield model, worker
            finally:
                worker.in_flight -= 1
                self._notify()
        finally:
            self._lengthen(line, -1)

    async def _follow(self, line: Line) -> None:
        """Keep a worker running for the alias: a new one after a promotion, or after a crash."""
        refused: tuple[ServedModel | None, float] = None, 0.0
        while True:
            await asyncio.sleep(PACE_S)
            model: ServedModel | None = None
            try:
                model = self._resolve(line.alias) if line.alias == CHAMPION else line.model
                if model == line.model and line.worker.is_alive:
                    continue
                if refused[0] == model and time.monotonic() < refused[1]:
                    continue
                await self._switch(line, model)
                refused = None, 0.0
            except process.expected() as error:
                self._metrics.switch_failed(line.alias)
                then = f"{line.model.name} stays in place." if line.worker.is_alive else "It is tried again."
                progress.say(f"{line.alias}: {str(error).rstrip('.')}. {then}")
                refused = model, time.monotonic() + RETRY_S

    async def _switch(self, line: Line, model: ServedModel) -> None:
        old_model, old_worker = line.model, line.worker
        if model == old_model:
            self._metrics.restarted(model.name)
            progress.say(f"{model.name} has ended ({old_worker.last_words()}); it is started again.")
        worker = await self._ready_worker(model)
        line.model, line.worker = model, worker
        self._notify()
        if model != old_model:
            self._metrics.switched(line.alias, old_model.name, model.name)
            progress.say(f"{line.alias} is {model.name} now; {old_model.name} finishes what it has begun.")
        if all(each.worker is not old_worker for each in self._lines.values()):
            self._spawn(self._retire(old_worker, old_model.name))

    async def _ready_worker(self, model: ServedModel) -> Worker:
        """Return a worker that has answered for this model, and start one if there is none. Raises RuntimeError if it does not answer."""
        launch = self._choose(model)
        async with self._starting:
            worker = self._workers.get(launch.key)
            if worker is None or not worker.is_alive:
                self._started += 1
                socket, log = self._sockets / f"{self._started}.sock", self._logs / f"serve-{model.name}.log"
                worker = Worker(launch, socket, log)
                self._workers[launch.key] = worker
            try:
                if not worker.is_alive:
                    await worker.start(model.name)
                await worker.warm(model.name)
            except BaseException:
                if all(line.worker is not worker for line in self._lines.values()):
                    del self._workers[launch.key]
                    await worker.stop()
                raise
        return worker

    async def _retire(self, worker: Worker, name: str) -> None:
        """Stop a worker to which no alias leads, after its running requests are finished."""
        if self._workers.get(worker.launch.key) is worker:
            del self._workers[worker.launch.key]
        try:
            async with asyncio.timeout(self._config.timeout_s):
                while worker.in_flight and worker.is_alive:
                    await self._changed.wait()
        except TimeoutError:
            progress.say(f"{name} is stopped with {worker.in_flight} requests unfinished.")
        finally:
            await worker.stop()

    async def _stop_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers = {
            id(worker): worker for worker in (*self._workers.values(), *(x.worker for x in self._lines.values()))
        }
        await asyncio.gather(*(worker.stop() for worker in workers.values()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            progress.say(f"the gateway no longer updates its models. Restart it: {error!r}")

    def _not_served(self, name: str) -> ApiError:
        served = ", ".join(f"{alias} ({line.model.name})" for alias, line in self._lines.items())
        message = f"The model {name!r} is not served here. There is: {served}."
        return ApiError(404, message, param="model", code="model_not_found")

    def _lengthen(self, line: Line, by: int) -> None:
        line.length += by
        self._metrics.queue(line.alias, line.length)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
