"""Cache answers of earlier runs: a group of them is generated once for each model, setting and machine that could change its text.

The other prompts of a batch change the last digits of logits, and thereby sometimes a token. So whole groups are cached, and a cached group
is equal to what would be generated again. Prompts are sorted by length, and the hash of a prompt decides whether a group ends after it: new
data change only the groups that they fall into.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from tasks.core.records import Message
from tasks.engine.inference import generation
from tasks.engine.inference.batches import Apply, Loaded, Track
from tasks.engine.inference.generation import Response, Sampling
from tasks.engine.inference.steering import Steering
from tasks.io.generators.answers import Answers

BATCHES = 4
"""Batches in a group: when a response ends, the next prompt of the same group takes its place."""
T = TypeVar("T")


@dataclass(frozen=True)
class Writing:
    """The settings of `generation.respond` for all groups of prompts."""

    max_new_tokens: int
    batch_size: int
    sampling: Sampling | None = None
    """Given without its keys, which come with the prompts."""
    stop: Sequence[str] = ()
    steering: Steering | None = None
    constrained: bool = False
    programs: bool = False


@dataclass(frozen=True)
class Group:
    """Prompts that are answered together, with the key, the task and the tools of each, where there are any."""

    prompts: Sequence[Sequence[Message]]
    keys: Sequence[str]
    tasks: Sequence[str]
    tools: Sequence[str | None]


def respond(
    prompts: Sequence[Sequence[Message]],
    keys: Sequence[str],
    writing: Writing,
    apply: Apply,
    answers: Answers | None,
    identity: Any,
    track: Track,
    tasks: Sequence[str] = (),
    tools: Sequence[str | None] = (),
) -> list[Response]:
    """Return the response to each prompt, from `answers` where its whole group is kept there. `apply` has a model write the others.

    `keys` are the seeds of sampled answers, empty for greedy ones. `identity` is everything else that a text depends on, in a form that
    JSON can hold. `tasks` are the tasks of the prompts, if answers depend on them, and `tools` the schemas of each prompt's tools.
    """
    contents = [
        json.dumps([[asdict(message) for message in prompt], *further], ensure_ascii=False, sort_keys=True)
        for prompt, *further in zip(prompts, keys, *filter(None, (tasks, tools)), strict=True)
    ]
    responses = [Response("", True)] * len(prompts)
    planned = list(groups(contents, BATCHES * writing.batch_size))
    questions = [[identity, writing.batch_size, writing.programs, at(group, contents)] for group in planned]
    kept = [answers.get(question) if answers else None for question in questions]
    missing = [group for group, known in zip(planned, kept, strict=True) if known is None]
    asked = (Group(at(group, prompts), at(group, keys), at(group, tasks), at(group, tools)) for group in missing)
    written = apply(partial(write, writing), asked, sum(map(len, missing)) // writing.batch_size)
    for group, question, known in zip(track(planned), questions, kept, strict=True):
        if known is None:
            known = [[response.text, response.ended] for response in next(written)]
            if answers:
                answers.keep(question, known)
        for position, (text, ended) in zip(group, known, strict=True):
            responses[position] = Response(text, ended)
    return responses


def write(writing: Writing, loaded: Loaded, group: Group) -> list[Response]:
    """Return a model's responses to a group of prompts."""
    return generation.respond(
        loaded.model,
        group.prompts,
        loaded.tokenizer,
        max_new_tokens=writing.max_new_tokens,
        batch_size=writing.batch_size,
        sampling=writing.sampling and replace(writing.sampling, keys=group.keys),
        stop=writing.stop,
        steering=writing.steering,
        tasks=group.tasks,
        tools=group.tools,
        constrained=writing.constrained,
        programs=writing.programs,
    )


def at(places: Sequence[int], values: Sequence[T]) -> list[T]:
    """Return the values at these places; an empty list if `values` is empty."""
    return [values[place] for place in places] if values else []


def groups(contents: Sequence[str], size: int) -> Iterator[list[int]]:
    """Yield the positions of each group: sorted by length, at most `size` of them, ended early after one prompt in `size` on average."""
    group: list[int] = []
    digests = [hashlib.sha256(content.encode()).hexdigest() for content in contents]
    for position in sorted(range(len(contents)), key=lambda index: (len(contents[index]), digests[index])):
        group.append(position)
        if len(group) == size or int(digests[position], 16) % size == 0:
            yield group
            group = []
    if group:
        yield group
