"""Answers kept from earlier runs: a group of them is generated once for each model, setting and machine that could change its text.

Which other prompts share a batch changes the last digits of logits, and so now and then a token. So whole groups are kept, and what was
kept is what would be generated anew. Prompts are put in order of length, and a group ends where the hash of its last prompt says so: data
that come later change the groups they fall into and no others.
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
"""Generates the responses to the prompts at these positions."""
BATCHES = 4
"""Batches in a group: where responses end, prompts of the same group take their places."""
Track = Callable[[list[list[int]]], Iterable[list[int]]]


def respond(
    prompts: Sequence[Sequence[Message]],
    keys: Sequence[str],
    batch_size: int,
    generate: Generate,
    answers: Answers | None,
    identity: Any,
    track: Track,
    tasks: Sequence[str] = (),
    tools: Sequence[str | None] = (),
) -> list[Response]:
    """Return the response to each prompt, from `answers` where its whole group is kept there.

    `keys` are the seeds of sampled answers, empty for greedy ones. `identity` is everything else that a text depends on, as JSON can
    hold it. `tasks` are those of the prompts, where answers go by them, and `tools` the schemas of each, where there are any.
    """
    contents = [
        json.dumps([[asdict(message) for message in prompt], *further], ensure_ascii=False, sort_keys=True)
        for prompt, *further in zip(prompts, keys, *filter(None, (tasks, tools)), strict=True)
    ]
    responses = [Response("", True)] * len(prompts)
    for group in track(list(groups(contents, BATCHES * batch_size))):
        question = [identity, batch_size, [contents[position] for position in group]]
        kept = answers.get(question) if answers else None
        if kept is None:
            kept = [[response.text, response.ended] for response in generate(group)]
            if answers:
                answers.keep(question, kept)
        for position, (text, ended) in zip(group, kept, strict=True):
            responses[position] = Response(text, ended)
    return responses


def groups(contents: Sequence[str], size: int) -> Iterator[list[int]]:
    """Yield the positions of each group: by length, at most `size`, ended early after one prompt in `size`."""
    group: list[int] = []
    digests = [hashlib.sha256(content.encode()).hexdigest() for content in contents]
    for position in sorted(range(len(contents)), key=lambda index: (len(contents[index]), digests[index])):
        group.append(position)
        if len(group) == size or int(digests[position], 16) % size == 0:
            yield group
            group = []
    if group:
        yield group
