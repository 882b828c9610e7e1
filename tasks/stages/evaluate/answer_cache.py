"""Answers kept from earlier runs: a batch is generated once for each model, setting and machine that could change its text.

Which other prompts share a batch changes the last digits of logits, and so now and then a token. So whole batches are kept, and what was
kept is what would be generated anew. Prompts are put in order of length, and a batch ends where the hash of its last prompt says so: data
that come later change the batches they fall into and no others.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tasks.core.records import Message
from tasks.engine.inference.generation import Response
from tasks.io.generators.answers import Answers

Generate = Callable[[list[int]], Sequence[Response]]
"""Generates the responses to the prompts at these positions, as one batch."""
Track = Callable[[list[list[int]]], Iterable[list[int]]]


def respond(
    prompts: Sequence[Sequence[Message]],
    keys: Sequence[str],
    batch_size: int,
    generate: Generate,
    answers: Answers | None,
    identity: Any,
    track: Track,
) -> list[Response]:
    """Return the response to each prompt, from `answers` where its whole batch is kept there.

    `keys` are the seeds of sampled answers, empty for greedy ones. `identity` is everything else that a text depends on, as JSON can
    hold it.
    """
    contents = [
        json.dumps([[asdict(message) for message in prompt], key], ensure_ascii=False, sort_keys=True)
        for prompt, key in zip(prompts, keys, strict=True)
    ]
    responses = [Response("", True)] * len(prompts)
    for batch in track(list(batches(contents, batch_size))):
        question = [identity, [contents[position] for position in batch]]
        kept = answers.get(question) if answers else None
        if kept is None:
            kept = [[response.text, response.ended] for response in generate(batch)]
            if answers:
                answers.keep(question, kept)
        for position, (text, ended) in zip(batch, kept, strict=True):
            responses[position] = Response(text, ended)
    return responses


def batches(contents: Sequence[str], batch_size: int) -> Iterator[list[int]]:
    """Yield the positions of each batch: by length, at most `batch_size`, ended early after one prompt in `2 * batch_size`."""
    batch: list[int] = []
    digests = [hashlib.sha256(content.encode()).hexdigest() for content in contents]
    for position in sorted(range(len(contents)), key=lambda index: (len(contents[index]), digests[index])):
        batch.append(position)
        if len(batch) == batch_size or int(digests[position], 16) % (2 * batch_size) == 0:
            yield batch
            batch = []
    if batch:
        yield batch
