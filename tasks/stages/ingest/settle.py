"""What stays of the examples and of the texts, and in which split."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.core.contamination import leaks, overlaps, sides
from tasks.core.records import Document, Example, Split
from tasks.stages.ingest import corpus, deduplicate, examples, texts
from tasks.stages.ingest.examples import Embed
from tasks.stages.ingest.ledger import Ledger, R, Taken
from tasks.stages.ingest.params import Domain, IngestParams
from tasks.stages.ingest.split import Group, assign, draw

RANKS: Mapping[Split, int] = {"test": 1, "gate": 2, "valid": 3, "train": 4}
"""Which copy stays where two records are alike: the benchmark's (0), then the test's, the gate's, the validation's."""
Reasons = dict[int, tuple[str, str]]


def settle_examples(
    taken: Sequence[Taken[Example]], benchmark: Sequence[Example], params: IngestParams, embed: Embed, ledger: Ledger
) -> tuple[list[Taken[Example]], dict[str, Split]]:
    """The examples that stay, each with its split, and the split of every group."""
    long = examples.too_long(_records(taken), params)
    taken = ledger.without(taken, {here: ("too long", detail) for here, detail in long})
    taken = ledger.without(taken, _equal(_records(taken), benchmark))
    taken = ledger.without(taken, _beyond_limit(_records(taken), params))

    groups = _split(_records(taken), params)
    taken = [Taken(source, replace(record, split=groups[record.group])) for source, record in taken]
    taken = ledger.without(taken, _near(_records(taken), benchmark, params, embed))
    taken = ledger.without(taken, _leaks(_records(taken), benchmark, params))
    return taken, groups


def settle_documents(
    taken: Sequence[Taken[Document]],
    modules: Sequence[Document],
    groups: Mapping[str, Split],
    evaluation: Sequence[Example],
    params: IngestParams,
    ledger: Ledger,
) -> list[Taken[Document]]:
    """The documents that stay, cut to size, each with its split.

    A text follows the examples of its group (`groups`). No text of a held-out group, no near-duplicate of one, and nothing
    that overlaps an evaluation example stays in a training corpus; `modules` are the texts that examples were mined from,
    which count as held out even where no corpus names them.
    """
    splits = corpus.splits_of(_records(taken), [item.source for item in taken], params.splits, params.seed, groups)
    taken = [Taken(item.source, replace(item.record, split=split)) for item, split in zip(taken, splits, strict=True)]
    hidden = [replace(module, split=groups.get(module.group, "train")) for module in modules]
    hidden = [module for module in hidden if module.split != "train"]
    held_out = [*hidden, *(document for document in _records(taken) if document.split != "train")]

    taken = ledger.without(taken, _near_texts(_records(taken), hidden, params))
    taken = ledger.without(taken, _beyond_chars(_records(taken), params))
    # Whole texts are held against examples, which a cut could part, and pieces against texts, of which they may hold a part.
    taken = ledger.without(taken, _overlapping(_records(taken), sides(evaluation), params))
    taken = list(_cut(taken, params.corpora.piece_chars, ledger))
    contents = [texts.without_comments(document.text) for document in held_out]
    return ledger.without(taken, _overlapping(_records(taken), contents, params))


def _records(taken: Sequence[Taken[R]]) -> list[R]:
    return [item.record for item in taken]


def _equal(records: Sequence[Example], benchmark: Sequence[Example]) -> Reasons:
    everything = [*benchmark, *records]
    first = len(benchmark)
    return {
        later - first: ("leak" if earlier < first else "duplicate", f"the same as {everything[earlier].source}")
        for later, earlier in examples.equal(everything).items()
        if later >= first
    }


def _beyond_limit(records: Sequence[Example], params: IngestParams) -> Reasons:
    if params.max_examples is None:
        return {}
    order = sorted(range(len(records)), key=lambda here: draw(params.seed, records[here].id))
    return dict.fromkeys(order[params.max_examples :], ("over the limit", f"max_examples is {params.max_examples}"))


def _split(records: Sequence[Example], params: IngestParams) -> dict[str, Split]:
    groups: dict[str, Group] = {}
    for record in records:
        known = groups.get(record.group, Group(record.group, record.domain, 0))
        groups[record.group] = replace(known, size=known.size + 1)
    return assign(groups.values(), params.splits.held_out, params.seed)


def _near(records: Sequence[Example], benchmark: Sequence[Example], params: IngestParams, embed: Embed) -> Reasons:
    everything, first = [*benchmark, *records], len(benchmark)
    pairs = examples.near_pairs(everything, params.near_duplicates, embed)
    ranks = [0] * first + [RANKS[record.split] for record in records]
    gone = deduplicate.resolve({(a, b) for a, b in pairs if b >= first}, ranks)
    return {
        here - first: _like(everything[there].source, everything[there].split, is_same=ranks[here] == ranks[there])
        for here, there in gone.items()
    }


def _leaks(records: Sequence[Example], benchmark: Sequence[Example], params: IngestParams) -> Reasons:
    training = [here for here, record in enumerate(records) if record.split == "train"]
    evaluation = [*benchmark, *(record for record in records if record.split != "train")]
    found = leaks([records[here] for here in training], evaluation, params.contamination)
    return {training[here]: ("leak", f"overlaps {evaluation[there].source}") for here, there in found.items()}


def _near_texts(records: Sequence[Document], hidden: Sequence[Document], params: IngestParams) -> Reasons:
    everything, first = [*hidden, *records], len(hidden)
    pairs = {
        (a, b)
        for a, b in corpus.near_pairs(everything, params.near_duplicates)
        if b >= first and (a >= first or RANKS[everything[a].split] < RANKS[everything[b].split])
    }
    ranks = [0] * first + [RANKS[record.split] for record in records]
    return {
        here - first: _like(
            everything[there].source, everything[there].split, is_same=everything[here].split == everything[there].split
        )
        for here, there in deduplicate.resolve(pairs, ranks).items()
    }


def _beyond_chars(records: Sequence[Document], params: IngestParams) -> Reasons:
    """What does not fit into a corpus. Each split has its share of the room, so that a limit does not unbalance them."""
    limit, held = params.corpora.max_chars, params.splits.held_out
    room = {"train": limit * (1 - sum(held.values()))} | {split: limit * share for split, share in held.items()}
    places: defaultdict[tuple[Domain, Split], list[int]] = defaultdict(list)
    for here, record in enumerate(records):
        places[record.domain, record.split].append(here)
    return {
        there[here]: ("over the limit", f"max_chars is {limit}")
        for (_, split), there in places.items()
        for here in corpus.over([records[here] for here in there], room[split], params.seed)
    }


def _cut(taken: Sequence[Taken[Document]], limit: int, ledger: Ledger) -> Iterator[Taken[Document]]:
    for item in taken:
        parts = corpus.cut(item.record, limit)
        ledger.cut(item, len(parts))
        yield from (Taken(item.source, part) for part in parts)


def _overlapping(records: Sequence[Document], evaluated: Sequence[str], params: IngestParams) -> Reasons:
    training = [here for here, record in enumerate(records) if record.split == "train"]
    contents = [texts.without_comments(records[here].text) for here in training]
    found = overlaps(contents, evaluated, params.contamination)
    return {
        training[here]: ("leak", f"overlaps the held-out text {texts.start(evaluated[there])!r}")
        for here, there in found.items()
    }


def _like(source: str, split: Split, *, is_same: bool) -> tuple[str, str]:
    return ("near-duplicate" if is_same else "leak"), f"too like {source} ({split})"
