"""Corpora: whole texts that follow the split of their group, then cut into documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.core.records import Document, Split, content_id
from tasks.stages.ingest import deduplicate, texts
from tasks.stages.ingest.deduplicate import Pair
from tasks.stages.ingest.params import NearDuplicates, Shares
from tasks.stages.ingest.split import Group, assign, draw

PIECE_MARK = " §"


def splits_of(
    documents: Sequence[Document], strata: Sequence[str], shares: Shares, seed: int, fixed: Mapping[str, Split]
) -> list[Split]:
    """The split of each text. A group that examples stand in keeps theirs; the others make up the shares."""
    sizes: dict[str, Group] = {}
    for document, stratum in zip(documents, strata, strict=True):
        known = sizes.get(document.group, Group(document.group, stratum, 0))
        sizes[document.group] = replace(known, size=known.size + len(document.text))
    splits = assign(sizes.values(), shares.held_out, seed, fixed)
    return [splits[document.group] for document in documents]


def near_pairs(documents: Sequence[Document], params: NearDuplicates) -> set[Pair]:
    """The pairs of whole texts that are near-duplicates, comment lines aside."""
    contents = [texts.without_comments(document.text) for document in documents]
    pairs = {(first, later) for later, first in deduplicate.exact(map(texts.squeezed, contents)).items()}
    if params.jaccard is None:
        return pairs
    return pairs | deduplicate.jaccard_pairs(deduplicate.shingles(contents, params), params.jaccard)


def cut(document: Document, limit: int) -> list[Document]:
    """The text as documents of at most `limit` characters, each with its number where there are several."""
    parts = [part.strip("\n") for part in texts.pieces(document.text, limit)]
    parts = [part for part in parts if part.strip()]
    return [_piece(document, part, number, len(parts)) for number, part in enumerate(parts, 1)]


def over(documents: Sequence[Document], limit: float, seed: int) -> Iterator[int]:
    """The positions that no longer fit when texts are taken, in an order drawn from the seed, up to `limit` characters."""
    room = limit
    for here in sorted(range(len(documents)), key=lambda here: draw(seed, documents[here].id)):
        room -= len(documents[here].text)
        if room < 0:
            yield here
            room += len(documents[here].text)


def _piece(document: Document, text: str, number: int, total: int) -> Document:
    source = document.source if total == 1 else f"{document.source}{PIECE_MARK}{number}"
    return replace(
        document, id=content_id(document.domain, document.group, text, str(number)), text=text, source=source
    )
