"""Writers of new text for a stage: a server, or a model on this machine. Both keep their answers, so none is asked for twice."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.imports import lasting
from tasks.core.records import Message
from tasks.core.stage import Run
from tasks.core.text.writing import Answer, Decoding, Server, Write, call
from tasks.io.generators.answers import Answers
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


def of_model(
    folder: Path,
    decoding: Decoding,
    compute: Compute,
    run: Run,
    parent: Path | None = None,
    load: Load = checkpoints.load,
) -> Write:
    """Return a function that has the model in `folder` write; `parent` is the base of an adapter.

    Batches are formed from the whole list of prompts and kept one by one: an interrupted run continues to the same bytes.
    """
    with lasting():
        from tasks.engine import device
        from tasks.engine.inference import generation
    device.use(compute)
    model, tokenizer = load(folder, parent, **device.placement(compute))
    answers = Answers(run.cache / "answers")
    identity = [
        checkpoints.weights_digest(folder),
        checkpoints.weights_digest(parent) if parent else "",
        compute.precision,
    ]

    def batch(prompts: list[Sequence[Message]], keys: list[str]) -> list[Answer]:
        conversations = [[asdict(message) for message in prompt] for prompt in prompts]
        question = [identity, decoding.model_dump(mode="json"), conversations, keys]
        if (texts := answers.get(question)) is not None:
            return [Answer(str(text)) for text in texts]
        began = time.time()
        responses = generation.respond(
            model,
            prompts,
            tokenizer,
            max_new_tokens=decoding.max_new_tokens,
            batch_size=len(prompts),
            sampling=generation.Sampling(decoding.temperature, decoding.top_p, keys),
        )
        seconds = time.time() - began
        answers.keep(question, [response.text for response in responses])
        written = [
            Answer(
                response.text,
                tokens_read=response.tokens_read,
                tokens_written=response.tokens_written,
                began=began,
                seconds=seconds,
            )
            for response in responses
        ]
        for prompt, answer in zip(prompts, written, strict=True):
            run.trace(call(folder.as_posix(), prompt, answer))
        return written

    def write(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[Answer]:
        order = sorted(range(len(prompts)), key=lambda index: sum(len(message.content) for message in prompts[index]))
        batches = [order[start : start + decoding.batch_size] for start in range(0, len(order), decoding.batch_size)]
        written: dict[int, Answer] = {}
        for indices in run.track(batches, unit="batch"):
            together = batch([prompts[index] for index in indices], [keys[index] for index in indices])
            written |= dict(zip(indices, together, strict=True))
        return [written[index] for index in range(len(prompts))]

    return write
