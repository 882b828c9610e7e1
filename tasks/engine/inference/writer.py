"""Writers of new text for a stage: a server, or a model on this machine. Both cache their answers, so no request is made twice."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.imports import lasting
from tasks.core.records import Message
from tasks.core.stage import Run
from tasks.core.text.writing import Answer, Decoding, Server, Write, call
from tasks.engine.inference.batches import Loaded
from tasks.engine.inference.local_model import Load, LocalModel, identity, placed
from tasks.io.generators.answers import Answers
from tasks.io.system.workers import Workers
from tasks.io.weights import checkpoints


class Bill:
    """Counts the tokens of a server's answers and logs them with their cost, under names that begin with `prefix`.

    The figures of all servers of a stage are logged as one sum, since MLflow shows only the last value of a metric.
    """

    def __init__(self, server: Server, run: Run, prefix: str = "") -> None:
        self._server, self._run, self._prefix = server, run, prefix

    def count(self, answers: Iterable[Answer], total: int) -> Iterator[Answer]:
        """Yield the answers, and log their cost at the end, even if the iteration stops early."""
        read = written = 0
        try:
            for answer in self._run.track(answers, total=total, unit="answer"):
                read, written = read + answer.tokens_read, written + answer.tokens_written
                yield answer
        finally:
            cost = (read * self._server.prompt_price + written * self._server.answer_price) / 1e6
            figures = {"tokens_read": read, "tokens_written": written, "cost": cost}
            self._run.add(**{self._prefix + name: figure for name, figure in figures.items()})


def of_server(server: Server, decoding: Decoding, run: Run) -> Write:
    """Return a function that has a server write. Tokens and cost are logged of answers that are not cached from earlier runs."""
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


def answer(decoding: Decoding, programs: bool, loaded: Loaded, batch: Batch) -> list[Answer]:
    """Return a model's answers to a batch; with `programs`, an answer ends with the code block of its program."""
    with lasting():
        from tasks.engine.inference import generation
    prompts, keys = batch
    began = time.time()
    responses = generation.respond(
        loaded.model,
        prompts,
        loaded.tokenizer,
        max_new_tokens=decoding.max_new_tokens,
        batch_size=len(prompts),
        sampling=generation.Sampling(decoding.temperature, decoding.top_p, keys),
        programs=programs,
    )
    seconds = time.time() - began
    return [
        Answer(
            response.text,
            tokens_read=response.tokens_read,
            tokens_written=response.tokens_written,
            ended=response.ended,
            began=began,
            seconds=seconds,
        )
        for response in responses
    ]


def of_model(
    folder: Path,
    decoding: Decoding,
    compute: Compute,
    run: Run,
    parent: Path | None = None,
    load: Load = checkpoints.load,
    workers: Workers | None = None,
    *,
    programs: bool = False,
) -> Write:
    """Return a function that has the model in `folder` write; `parent` is the base of an adapter. With `programs`, only the program of an
    answer is judged, so the answer ends with its code block.

    Batches are formed from the whole list of prompts and cached one by one, so an interrupted run continues to the same bytes. If there are
    enough batches, the nodes of the cluster that the environment names answer them; `workers` are workers already connected to it.
    """
    placed(compute)  # for the rest of the stage too, such as its embeddings
    local = LocalModel(folder, parent, load, compute)
    work = partial(answer, Decoding.model_validate(decoding.model_dump(include=set(Decoding.model_fields))), programs)
    answers, model = Answers(run.cache / "answers"), identity(folder, parent, compute)

    def question(batch: Batch) -> Any:
        prompts, keys = batch
        conversations = [[asdict(message) for message in prompt] for prompt in prompts]
        return [model, decoding.model_dump(mode="json"), conversations, keys, *(["programs"] if programs else [])]

    def answered(batches: Sequence[Batch]) -> Iterator[list[Answer]]:
        """Yield the answers to each batch, cached or new."""
        kept = [_known(answers.get(question(batch))) for batch in batches]
        missing = [batch for batch, known in zip(batches, kept, strict=True) if known is None]
        with nullcontext(workers) if workers else Workers() as some:
            new = local.on(some)(work, missing, len(missing))
            for batch, known in zip(batches, kept, strict=True):
                if known is not None:
                    yield known
                    continue
                written = next(new)
                answers.keep(question(batch), [[answer.text, answer.ended] for answer in written])
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


def _known(kept: list[Any] | None) -> list[Answer] | None:
    """Return the cached answers to a batch; None if there are none, or if an older version did not record whether they were cut off."""
    if kept is None or not all(isinstance(answer, list) for answer in kept):
        return None
    return [Answer(text, ended=ended) for text, ended in kept]
