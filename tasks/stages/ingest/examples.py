"""Examples from rows, and the ones among them that must not stand beside one another."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.contamination import comparable, prompt_of
from tasks.core.records import Example, Refusal, Unfit, identify
from tasks.stages.ingest import deduplicate, shapes, texts, weigh
from tasks.stages.ingest.deduplicate import Pair
from tasks.stages.ingest.params import IngestParams, NearDuplicates, Rows

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def from_row(values: dict[str, object], where: str, source: str, about: Rows, domain: str) -> Example | Refusal:
    """The example in a row of one of the usual shapes, or why it is none."""
    messages = shapes.conversation(values)
    if isinstance(messages, Unfit):
        return Refusal(source, where, messages.reason, messages.detail, texts.start(values))
    group = where
    if about.group is not None:
        if values.get(about.group) is None:
            return Refusal(source, where, "no group", f"the column {about.group!r} is empty", texts.start(values))
        group = texts.start(values[about.group])
    weights = weigh.weights(values, about.weights) if about.weights else None
    if isinstance(weights, Unfit):
        return Refusal(source, where, weights.reason, weights.detail, texts.start(values))
    return Example(
        id=identify(messages),
        messages=messages,
        task=about.task,
        domain=domain,
        group=f"{source}: {group}",
        split="train",
        source=f"{source}: {where}",
        license=about.license,
        weights=weights,
    )


def equal(examples: Sequence[Example]) -> dict[int, int]:
    """Each later example that says the same as an earlier one, white space aside → the earlier one."""
    return deduplicate.exact(
        tuple((message.role, texts.squeezed(message.content)) for message in example.messages) for example in examples
    )


def too_long(examples: Sequence[Example], params: IngestParams) -> Iterator[tuple[int, str]]:
    """The examples above a limit of length, and by how much."""
    for here, example in enumerate(examples):
        prompt, response = len(prompt_of(example)), len(example.response)
        if prompt > params.max_prompt_chars:
            yield here, f"the prompt has {prompt} characters; max_prompt_chars is {params.max_prompt_chars}"
        elif response > params.max_response_chars:
            yield here, f"the response has {response} characters; max_response_chars is {params.max_response_chars}"


def near_pairs(examples: Sequence[Example], params: NearDuplicates, embed: Embed) -> set[Pair]:
    """The pairs of examples whose prompts or whose responses are near-duplicates."""
    prompts = deduplicate.shingles([comparable(example, prompt_of(example)) for example in examples], params)
    responses = deduplicate.shingles([comparable(example, example.response) for example in examples], params)
    pairs: set[Pair] = set()
    if params.jaccard is not None:
        pairs |= deduplicate.jaccard_pairs(prompts, params.jaccard)
        pairs |= deduplicate.jaccard_pairs(responses, params.jaccard)
    if params.cosine is not None and responses:
        places = list(responses)
        found = deduplicate.cosine_pairs(embed([examples[here].response for here in places]), params.cosine)
        pairs |= {(places[a], places[b]) for a, b in found}
    return pairs
