"""Choose the examples that are kept and draw their splits: limits, duplicates, near-duplicates, contamination."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Example, Split
from tasks.core.text.contamination import comparable, leaks, prompt_of
from tasks.stages.ingest.config import IngestConfig, NearDuplicates
from tasks.stages.ingest.filtering import duplicates
from tasks.stages.ingest.filtering.duplicates import RANKS, Pair
from tasks.stages.ingest.quarantine import Quarantine, Reasons, Sourced
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.splits import seeded_hash, split_examples

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def filter_and_split_examples(
    items: Sequence[Sourced[Example]],
    benchmark: Sequence[Example],
    config: IngestConfig,
    embed: Embed,
    quarantine: Quarantine,
) -> tuple[list[Sourced[Example]], dict[str, Split]]:
    """Return the examples that are kept, each with its split, and the split of every group."""
    items = quarantine.keep_others(items, dict(_too_long(_records(items), config)))
    items = quarantine.keep_others(items, _equal(_records(items), benchmark))
    items = quarantine.keep_others(items, _over_limit(_records(items), config))

    groups = split_examples(_records(items), config)
    items = [Sourced(source, replace(record, split=groups[record.group])) for source, record in items]
    items = quarantine.keep_others(items, _near_duplicates(_records(items), benchmark, config, embed))
    items = quarantine.keep_others(items, _contaminated(_records(items), benchmark, config))
    return items, groups


def _records(items: Sequence[Sourced[Example]]) -> list[Example]:
    return [item.record for item in items]


def _too_long(examples: Sequence[Example], config: IngestConfig) -> Iterator[tuple[int, tuple[str, str]]]:
    for position, example in enumerate(examples):
        prompt, response = len(prompt_of(example)), max(len(example.response), len(example.rejected or ""))
        if prompt > config.max_prompt_chars:
            detail = f"the prompt has {prompt} characters; max_prompt_chars is {config.max_prompt_chars}"
            yield position, ("too long", detail)
        elif response > config.max_response_chars:
            detail = f"the response has {response} characters; max_response_chars is {config.max_response_chars}"
            yield position, ("too long", detail)


def _equal(examples: Sequence[Example], benchmark: Sequence[Example]) -> Reasons:
    """Refuse what equals an earlier example or an item of the benchmark, white space aside."""
    held_out = {_spoken(example): example.source for example in reversed(benchmark)}
    doubles = {
        later: ("duplicate", f"the same as {examples[earlier].source}")
        for later, earlier in duplicates.equal_positions(map(_content, examples)).items()
    }
    leaked = {
        position: ("leak", f"the same as {held_out[spoken]}")
        for position, example in enumerate(examples)
        if (spoken := _spoken(example)) in held_out
    }
    return doubles | leaked


def _content(example: Example) -> Hashable:
    """Return all that makes an example another one, white space aside."""
    rejected = example.rejected and cleaning.collapse_whitespace(example.rejected)
    return _spoken(example), example.tools, rejected, example.desirable


def _spoken(example: Example) -> Hashable:
    """Return the messages of an example, white space aside."""
    return tuple(
        (message.role, *map(cleaning.collapse_whitespace, [message.content, *message.texts]))
        for message in example.messages
    )


def _over_limit(examples: Sequence[Example], config: IngestConfig) -> Reasons:
    if config.max_examples is None:
        return {}
    drawn = sorted(range(len(examples)), key=lambda position: seeded_hash(config.seed, examples[position].id))
    return dict.fromkeys(drawn[config.max_examples :], ("over the limit", f"max_examples is {config.max_examples}"))


def _near_duplicates(
    examples: Sequence[Example], benchmark: Sequence[Example], config: IngestConfig, embed: Embed
) -> Reasons:
    combined, first = [*benchmark, *examples], len(benchmark)
    ranks = [0] * first + [RANKS[example.split] for example in examples]
    pairs = _near_pairs(combined, ranks, config.near_duplicates, embed)
    removed = duplicates.merge_duplicates({(a, b) for a, b in pairs if b >= first}, ranks)
    return {
        position - first: duplicates.near_duplicate_reason(
            combined[twin].source, combined[twin].split, is_same_split=ranks[position] == ranks[twin]
        )
        for position, twin in removed.items()
    }


def _near_pairs(examples: Sequence[Example], ranks: Sequence[int], config: NearDuplicates, embed: Embed) -> set[Pair]:
    """Return the pairs of examples whose prompts or whose responses are near-duplicates.

    A prompt is all before the last answer, so the earlier answers of a conversation too. Rejected answers are not compared.
    """
    prompts = duplicates.comparable([comparable(example, prompt_of(example)) for example in examples], config)
    responses = duplicates.comparable([comparable(example, example.response) for example in examples], config)
    pairs: set[Pair] = set()
    if config.jaccard is not None:
        pairs |= duplicates.jaccard_pairs(prompts, config.jaccard, ranks)
        pairs |= duplicates.jaccard_pairs(responses, config.jaccard, ranks)
    if config.cosine is not None and len(responses.positions):
        positions = responses.positions.tolist()
        near = duplicates.cosine_pairs(embed([examples[position].response for position in positions]), config.cosine)
        pairs |= {(positions[a], positions[b]) for a, b in near}
    return {(a, b) for a, b in pairs if not _is_judged_beside(examples[a], examples[b])}


def _is_judged_beside(example: Example, other: Example) -> bool:
    """Return True for two judgements of answers to one prompt: they are alike, and both are needed."""
    judged = all(one.rejected is not None or one.desirable is not None for one in (example, other))
    return judged and example.prompt == other.prompt and _content(example) != _content(other)


def _contaminated(examples: Sequence[Example], benchmark: Sequence[Example], config: IngestConfig) -> Reasons:
    """Refuse training examples that overlap an evaluation example."""
    training = [position for position, example in enumerate(examples) if example.split == "train"]
    evaluation = [*benchmark, *(example for example in examples if example.split != "train")]
    leaked = leaks([examples[position] for position in training], evaluation, config.contamination)
    return {training[a]: ("leak", f"overlaps {evaluation[b].source}") for a, b in leaked.items()}
