"""Writers of new text for a stage: a server, or a model on this machine. Both keep their answers, so none is asked for twice."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.imports import lasting
from tasks.core.records import Message
from tasks.core.stage import Run
from tasks.core.text.writing import Answer, Decoding, Server, Write, call
from tasks.io import provenance
from tasks.io.generators.answers import Answers
from tasks.io.system.ray_cluster import Needs
from tasks.io.system.workers import Workers, identity_of
from tasks.io.weights import checkpoints

Load = Callable[..., tuple[Any, Any]]
"""`tasks.io.weights.checkpoints.load`, or `tasks.io.weights.models.load` where a compressed model may be named."""


class Bill:
    """Counts the tokens of a server's answers and logs them with their cost, under names that begin with `prefix`."""

    def __init__(self, server: Server, run: Run, prefix: str = "") -> None:
        self._server, self._run, self._prefix = server, run, prefix
        self._read = self._written = 0

    def count(self, answers: Iterable[Answer], total: int) -> Iterator[Answer]:
        """Yield the answers, and log what all answers so far have cost."""
        for answer in self._run.track(answers, total=total, unit="answer"):
            self._read, self._written = self._read + answer.tokens_read, self._written + answer.tokens_written
            yield answer
        cost = (self._read * self._server.prompt_price + self._written * self._server.answer_price) / 1e6
        figures = {"tokens_read": self._read, "tokens_written": self._written, "cost": cost}
        self._run.log(None, **{f"{self._prefix}{name}": figure for name, figure in figures.items()})


def of_server(server: Server, decoding: Decoding, run: Run) -> Write:
    """Return a function that has a server write. Tokens and cost of answers that are not kept from earlier runs are logged."""
    from tasks.io.generators.endpoint import Endpoint

    endpoint, bill = Endpoint(server, run.cache / "answers"), Bill(server, run)

    def write(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> Iterator[Answer]:
        answers = bill.count(endpoint.write(prompts, keys, decoding), len(prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            if answer.began:
                run.trace(call(server.model, prompt, answer))
            yield answer

    return write


Batch = tuple[Sequence[Sequence[Message]], Sequence[str]]
"""Prompts that are answered together, and the seed of each."""


@dataclass(frozen=True)
class LocalModel:
    """A model on disk that answers batches of prompts, here or on a node of a cluster."""

    folder: Path
    parent: Path | None
    """The base of an adapter."""
    load: Load
    compute: Compute
    decoding: Decoding
    weights: tuple[str, str]
    """Digests of the model and of its base."""

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return self.load(self.folder, self.parent, **_device(self.compute))

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to a node, which loads the model itself."""
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    def __call__(self, batch: Batch) -> list[Answer]:
        """Answer a batch. The first one loads the model."""
        with lasting():
            from tasks.engine.inference import generation
        prompts, keys = batch
        model, tokenizer = self._loaded
        began = time.time()
        responses = generation.respond(
            model,
            prompts,
            tokenizer,
            max_new_tokens=self.decoding.max_new_tokens,
            batch_size=len(prompts),
            sampling=generation.Sampling(self.decoding.temperature, self.decoding.top_p, keys),
        )
        seconds = time.time() - began
        return [
            Answer(
                response.text,
                tokens_read=response.tokens_read,
                tokens_written=response.tokens_written,
                began=began,
                seconds=seconds,
            )
            for response in responses
        ]


def on_node(local: LocalModel, batch: Batch) -> list[Answer]:
    """Answer a batch on a node. Each of its processes loads the model once. Raises ValueError if its weights are others there."""
    return _first_equal(local)(batch)


@lru_cache(maxsize=1)
def _first_equal(local: LocalModel) -> LocalModel:
    """Return the model that came with the first batch of this process: later batches come with copies of it, which have loaded nothing."""
    for folder, digest in zip((local.folder, local.parent), local.weights, strict=True):
        if folder and checkpoints.weights_digest(folder) != digest:
            raise ValueError(
                f"{os.uname().nodename} has other weights at {folder} in {Path.cwd()} than this machine. Share the workspace between the "
                "nodes of the cluster, or copy these there."
            )
    return local


def of_model(
    folder: Path,
    decoding: Decoding,
    compute: Compute,
    run: Run,
    parent: Path | None = None,
    load: Load = checkpoints.load,
) -> Write:
    """Return a function that has the model in `folder` write; `parent` is the base of an adapter.

    Batches are formed from the whole list of prompts and kept one by one: an interrupted run continues to the same bytes. If there are
    enough of them, the nodes of a cluster that the environment names answer them.
    """
    _device(compute)  # what else a stage computes, embeddings for instance, is computed with it
    weights = checkpoints.weights_digest(folder), checkpoints.weights_digest(parent) if parent else ""
    plain = Decoding.model_validate(decoding.model_dump(include=set(Decoding.model_fields)))
    local = LocalModel(folder, parent, load, compute, plain, weights)
    needs = Needs(compute.threads, gpus=int(compute.device == "cuda"))
    answers = Answers(run.cache / "answers")

    def question(batch: Batch) -> Any:
        prompts, keys = batch
        conversations = [[asdict(message) for message in prompt] for prompt in prompts]
        return [[*weights, compute.precision], decoding.model_dump(mode="json"), conversations, keys]

    def answered(batches: Sequence[Batch]) -> Iterator[list[Answer]]:
        """Yield the answers to each batch, those kept from earlier runs among them."""
        kept = [answers.get(question(batch)) for batch in batches]
        missing = [batch for batch, texts in zip(batches, kept, strict=True) if texts is None]
        with Workers() as workers:
            function = partial(on_node, local) if workers.uses_cluster(len(missing)) else local
            new = workers.apply(function, missing, len(missing), needs=needs, identity=_identity_of)
            for batch, texts in zip(batches, kept, strict=True):
                if texts is not None:
                    yield [Answer(str(text)) for text in texts]
                    continue
                written = next(new)
                answers.keep(question(batch), [answer.text for answer in written])
                for prompt, answer in zip(batch[0], written, strict=True):
                    run.trace(call(folder.as_posix(), prompt, answer))
                yield written

    def write(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[Answer]:
        order = sorted(range(len(prompts)), key=lambda index: sum(len(message.content) for message in prompts[index]))
        places = [order[start : start + decoding.batch_size] for start in range(0, len(order), decoding.batch_size)]
        batches = [([prompts[place] for place in some], [keys[place] for place in some]) for some in places]
        written: dict[int, Answer] = {}
        for some, together in zip(run.track(places, unit="batch"), answered(batches), strict=True):
            written |= dict(zip(some, together, strict=True))
        return [written[place] for place in range(len(prompts))]

    return write


def _device(compute: Compute) -> dict[str, Any]:
    """Have this process compute as `compute` says, and return where a model is to be."""
    with lasting():
        from tasks.engine import device
    device.use(compute)
    return {**device.placement(compute)}


def _identity_of(module: str) -> dict[str, str]:
    """Return what answers follow from, beside the weights: the code, and the machine's class."""
    return {**identity_of(module), **provenance.machine_class()}
