"""Choose the documents that are kept, draw their splits and cut them into chunks: near-duplicates, limits, contamination."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.core.records import Document, Split
from tasks.core.text.contamination import overlaps
from tasks.stages.ingest.chunking import chunk_document
from tasks.stages.ingest.config import Domain, IngestConfig, NearDuplicates
from tasks.stages.ingest.filtering import duplicates
from tasks.stages.ingest.filtering.duplicates import RANKS, Pair
from tasks.stages.ingest.quarantine import Quarantine, Reasons, Sourced
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.splits import seeded_hash, split_documents

Overlapping = Callable[[Sequence[str]], Mapping[int, str]]
"""Maps the position of each text that overlaps an evaluation text to the latter."""


def filter_and_split_documents(
    items: Sequence[Sourced[Document]],
    modules: Sequence[Document],
    groups: Mapping[str, Split],
    overlapping: Overlapping,
    config: IngestConfig,
    quarantine: Quarantine,
) -> list[Sourced[Document]]:
    """Return the documents that are kept, cut into chunks, each with its split.

    A document follows the examples of its group (`groups`). No document of a held-out group, no near-duplicate of one, and
    nothing that overlaps an evaluation example (`overlapping`) stays in a training corpus. `modules` are the texts that examples were
    mined from; they count as held out even where no corpus names them.
    """
    splits = split_documents(_records(items), [item.source for item in items], config, groups)
    items = [Sourced(item.source, replace(item.record, split=split)) for item, split in zip(items, splits, strict=True)]
    hidden = [replace(module, split=groups.get(module.group, "train")) for module in modules]
    hidden = [module for module in hidden if module.split != "train"]
    held_out = [*hidden, *(document for document in _records(items) if document.split != "train")]

    items = quarantine.keep_others(items, _near_duplicates(_records(items), hidden, config))
    items = quarantine.keep_others(items, _over_limit(_records(items), config))
    # Uncut documents are compared with examples, which a cut could part; chunks with held-out texts, of which they may hold a part.
    items = quarantine.keep_others(items, _contaminated(_records(items), overlapping))
    items = list(_chunks(items, config.corpora.piece_chars, quarantine))
    held_out_texts = [cleaning.without_comments(document.text) for document in held_out]

    def overlapping_held_out(contents: Sequence[str]) -> dict[int, str]:
        pairs = overlaps(contents, held_out_texts, config.contamination)
        return {position: held_out_texts[other] for position, other in pairs.items()}

    return quarantine.keep_others(items, _contaminated(_records(items), overlapping_held_out))


def _records(items: Sequence[Sourced[Document]]) -> list[Document]:
    return [item.record for item in items]


def _near_duplicates(documents: Sequence[Document], hidden: Sequence[Document], config: IngestConfig) -> Reasons:
    combined, first = [*hidden, *documents], len(hidden)
    ranks = [0] * first + [RANKS[document.split] for document in documents]
    pairs = {
        (a, b)
        for a, b in _near_pairs(combined, ranks, config.near_duplicates)
        if b >= first and (a >= first or RANKS[combined[a].split] < RANKS[combined[b].split])
    }
    return {
        position - first: duplicates.near_duplicate_reason(
            combined[twin].source,
            combined[twin].split,
            is_same_split=combined[position].split == combined[twin].split,
        )
        for position, twin in duplicates.merge_duplicates(pairs, ranks).items()
    }


def _near_pairs(documents: Sequence[Document], ranks: Sequence[int], config: NearDuplicates) -> set[Pair]:
    """Return the pairs of documents that are near-duplicates, comment lines aside."""
    contents = [cleaning.without_comments(document.text) for document in documents]
    equal = duplicates.equal_positions(map(cleaning.collapse_whitespace, contents))
    pairs = {(first, later) for later, first in equal.items()}
    if config.jaccard is None:
        return pairs
    return pairs | duplicates.jaccard_pairs(duplicates.comparable(contents, config), config.jaccard, ranks)


def _over_limit(documents: Sequence[Document], config: IngestConfig) -> Reasons:
    """Refuse what exceeds the size of a corpus. Each split has its share of the size, so that the limit keeps the shares."""
    limit, held_out = config.corpora.max_chars, config.splits.held_out
    limits = {"train": limit * (1 - sum(held_out.values()))}
    limits |= {split: limit * share for split, share in held_out.items()}
    positions: defaultdict[tuple[Domain, Split], list[int]] = defaultdict(list)
    for position, document in enumerate(documents):
        positions[document.domain, document.split].append(position)
    return {
        members[index]: ("over the limit", f"max_chars is {limit}")
        for (_, split), members in positions.items()
        for index in _beyond([documents[position] for position in members], limits[split], config.seed)
    }


def _beyond(documents: Sequence[Document], limit: float, seed: int) -> Iterator[int]:
    """Take documents in an order drawn from the seed and yield the positions that no longer fit into `limit` characters."""
    room = limit
    for position in sorted(range(len(documents)), key=lambda position: seeded_hash(seed, documents[position].id)):
        room -= len(documents[position].text)
        if room < 0:
            yield position
            room += len(documents[position].text)


def _chunks(items: Sequence[Sourced[Document]], limit: int, quarantine: Quarantine) -> Iterator[Sourced[Document]]:
    for item in items:
        chunks = chunk_document(item.record, limit)
        quarantine.count_chunks(item, len(chunks))
        yield from (Sourced(item.source, chunk) for chunk in chunks)


def _contaminated(documents: Sequence[Document], overlapping: Overlapping) -> Reasons:
    """Refuse training documents that overlap a text models are evaluated by."""
    training = [position for position, document in enumerate(documents) if document.split == "train"]
    contents = [cleaning.without_comments(documents[position].text) for position in training]
    return {
        training[place]: ("leak", f"overlaps the held-out text {cleaning.beginning(text)!r}")
        for place, text in overlapping(contents).items()
    }
