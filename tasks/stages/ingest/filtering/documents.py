"""Choose the documents to keep, draw their splits and cut them into chunks: near-duplicates, limits, contamination."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from tasks.core.records import Document, Split
from tasks.core.text.contamination import find_overlaps
from tasks.core.text.near_duplicates import Likeness, Limits, find_near_duplicates
from tasks.core.text.shingles import Indices
from tasks.core.text.texts import Apply, Selection, Texts, apply_here
from tasks.stages.ingest.chunking import CHUNK_MARK, chunk_document
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.corpus import Corpus, text_key
from tasks.stages.ingest.filtering.duplicates import FEW, RANKS, SHINGLE, Kept, near_duplicate_reason
from tasks.stages.ingest.quarantine import Quarantine, Reasons, Sourced
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.splits import seeded_hash, split_documents

Overlapping = Callable[[Selection], Mapping[int, str]]
"""Maps the index of each text that overlaps an evaluation text to the evaluation text."""


@dataclass(frozen=True)
class KeptDocuments:
    """The chunks that are kept."""

    corpus: Corpus
    numbers: Indices

    @property
    def items(self) -> list[Sourced[Document]]:
        """Return the kept chunks without their texts."""
        return [self.corpus.items[number] for number in self.numbers.tolist()]

    def frames(self, split: Split) -> Iterator[pl.DataFrame]:
        """Yield the kept chunks of a split as frames."""
        return self.corpus.frames(self.corpus.in_split(self.numbers, split))


def cut_lone_documents(
    corpus: Corpus, groups: Mapping[str, Split], config: IngestConfig, quarantine: Quarantine, folder: Path
) -> Corpus:
    """Return the corpus with the documents of domains that have fewer groups than splits cut into chunks, each a group of its own.

    Without it, one long text could not be trained on and measured. Documents in the `groups` of examples stay whole. The new corpus is
    written below `folder`; if no domain has so few groups, the corpus itself is returned.
    """
    names = {(document.domain, document.group) for document in corpus.documents}
    sizes = Counter(domain for domain, _ in names)
    lone = {domain for domain, size in sizes.items() if size < len(config.splits.of_corpora)}
    if not lone:
        return corpus
    cut = Corpus(folder)
    for _, item in corpus.read(range(len(corpus))):
        is_cut = item.record.domain in lone and item.record.group not in groups
        parts = _parts(item.record, config.corpora.piece_chars) if is_cut else [item.record]
        quarantine.count_chunks(item, len(parts))
        cut.add(Sourced(item.source, part) for part in parts)
    return cut


def _parts(document: Document, limit: int) -> list[Document]:
    """Return the chunks of a document as groups of their own; a document of one chunk stays as it is."""
    chunks = chunk_document(document, limit)
    if len(chunks) == 1:
        return [document]
    return [replace(chunk, group=f"{chunk.group}{CHUNK_MARK}{number}") for number, chunk in enumerate(chunks, 1)]


def filter_and_split_documents(
    corpus: Corpus,
    modules: Sequence[Document],
    groups: Mapping[str, Split],
    overlapping: Overlapping,
    config: IngestConfig,
    quarantine: Quarantine,
    folder: Path,
    rescued: Collection[str] = (),
    apply: Apply = apply_here,
) -> KeptDocuments:
    """Return the kept documents, cut into chunks, each with its split. They are written below `folder`.

    A document gets the split of the examples of its group (`groups`). A training corpus keeps no document of a held-out group, no
    near-duplicate of one, and no document that overlaps an evaluation example (`overlapping`). `modules` are the texts that examples were
    mined from. Those in held-out groups count as held-out texts even if no corpus names them. Documents whose ids are `rescued` are
    refused only as leaks.
    """
    sources = [item.source for item in corpus.items]
    corpus.assign(split_documents(corpus.documents, sources, config, groups, corpus.facts))
    hidden = [module for module in modules if groups.get(module.group, "train") != "train"]
    numbers = np.arange(len(corpus))
    splits = [groups[module.group] for module in hidden]
    duplicates = _near_duplicates(corpus, hidden, splits, config, folder, rescued, apply)
    numbers = _refused(corpus, numbers, duplicates, quarantine)
    beyond = {
        number: why
        for number, why in _over_limit(corpus, numbers, config).items()
        if corpus.items[number].record.id not in rescued
    }
    numbers = _refused(corpus, numbers, beyond, quarantine)
    # Documents are compared with examples before the cut, which could divide an overlap. Chunks are compared with held-out texts, of which they
    # may hold a part.
    numbers = _refused(corpus, numbers, _contaminated(corpus, numbers, overlapping), quarantine)
    chunks = _chunks(corpus, numbers, config.corpora.piece_chars, quarantine, folder / "chunks")
    held_out = _HeldOut(corpus, [cleaning.without_comments(module.text) for module in hidden], config, folder, apply)
    numbers = np.arange(len(chunks))
    numbers = _refused(chunks, numbers, _contaminated(chunks, numbers, held_out.overlapping), quarantine)
    return KeptDocuments(chunks, numbers)


def _refused(corpus: Corpus, numbers: Indices, reasons: Reasons, quarantine: Quarantine) -> Indices:
    """Refuse documents, and return the numbers of the others."""
    for number, item in corpus.read(reasons):
        quarantine.refuse(item, *reasons[number])
    return np.setdiff1d(numbers, np.fromiter(reasons, np.int64))


def _near_duplicates(
    corpus: Corpus,
    hidden: Sequence[Document],
    hidden_splits: Sequence[Split],
    config: IngestConfig,
    folder: Path,
    rescued: Collection[str],
    apply: Apply,
) -> Reasons:
    """Return the near-duplicates, comment lines ignored, of documents with precedence and of hidden modules of a split with precedence.

    A rescued document is refused only for near-duplicates in another split.
    """
    if not len(corpus):
        return {}
    texts = Texts.of([cleaning.without_comments(module.text) for module in hidden]) if hidden else Texts([], [])
    documents = corpus.documents
    first, splits = len(hidden), [*hidden_splits, *(document.split for document in documents)]
    ranks = np.array([0] * first + [RANKS[split] for split in splits[first:]], np.int8)
    sides = [_equal([*(text_key(module.text) for module in hidden), *corpus.keys])]
    near = config.near_duplicates
    if near.jaccard is not None:
        limits = Limits(near.jaccard, SHINGLE, near.min_words - SHINGLE + 1, max(FEW, near.template * len(splits)))
        compared = Selection.all(texts + corpus.texts())
        sides.append(find_near_duplicates(compared, limits, ranks, folder / "near", apply=apply))
    kept, kept_hidden = [Kept(side) for side in sides], defaultdict[Split, list[Kept]](list)
    for split in dict.fromkeys(hidden_splits):
        kept_hidden[split] = [Kept(side) for side in sides]
    for position, split in enumerate(hidden_splits):
        for side in kept_hidden[split]:
            side.keep(position, 0)
    sources = [*(module.source for module in hidden), *(document.source for document in documents)]
    reasons = {}
    for position in (np.argsort(ranks[first:], kind="stable") + first).tolist():
        split = splits[position]
        before = [side for other, some in kept_hidden.items() if RANKS[other] < RANKS[split] for side in some]
        twins = {twin for side in [*kept, *before] for twin in side.twins(position, 0)}
        is_exempt = documents[position - first].id in rescued and all(splits[twin] == split for twin in twins)
        if not twins or is_exempt:
            for side in kept:
                side.keep(position, 0)
            continue
        twin = min(twins)
        is_same_split = splits[twin] == split
        reasons[position - first] = near_duplicate_reason(sources[twin], splits[twin], is_same_split=is_same_split)
    return reasons


def _equal(keys: Sequence[int]) -> Likeness:
    """Return equal keys as classes of equal texts."""
    classes = np.unique(np.array(keys, np.uint64), return_inverse=True)[1]
    return Likeness(classes, np.zeros((0, 2), np.int64), np.zeros(0))


def _over_limit(corpus: Corpus, numbers: Indices, config: IngestConfig) -> Reasons:
    """Return the documents beyond the size limit of a corpus. Each split has its share of the limit, so that the shares stay the same."""
    limit, held_out = config.corpora.max_chars, config.splits.held_out
    limits = {"train": limit * (1 - sum(held_out.values()))}
    limits |= {split: limit * share for split, share in held_out.items()}
    members: defaultdict[tuple[str, Split], list[int]] = defaultdict(list)
    for number in numbers.tolist():
        document = corpus.items[number].record
        members[document.domain, document.split].append(number)
    return {
        number: ("over the limit", f"max_chars is {limit}")
        for (_, split), some in members.items()
        for number in _beyond(corpus, some, limits[split], config.seed)
    }


def _beyond(corpus: Corpus, numbers: Sequence[int], limit: float, seed: int) -> Iterator[int]:
    """Take documents in an order drawn from the seed, and yield those that do not fit into `limit` characters."""
    room = limit
    for number in sorted(numbers, key=lambda number: seeded_hash(seed, corpus.items[number].record.id)):
        room -= corpus.facts[number].chars
        if room < 0:
            yield number
            room += corpus.facts[number].chars


def _chunks(corpus: Corpus, numbers: Indices, limit: int, quarantine: Quarantine, folder: Path) -> Corpus:
    """Return the documents cut into chunks."""
    cut = Corpus(folder)
    for _, item in corpus.read(numbers):
        chunks = chunk_document(item.record, limit)
        quarantine.count_chunks(item, len(chunks))
        cut.add(Sourced(item.source, chunk) for chunk in chunks)
    return cut


def _contaminated(corpus: Corpus, numbers: Indices, overlapping: Overlapping) -> Reasons:
    """Return the training documents that overlap a text on which models are evaluated."""
    training = corpus.in_split(numbers, "train")
    if not len(training):
        return {}
    return {
        int(training[place]): ("leak", f"overlaps the held-out text {cleaning.beginning(text)!r}")
        for place, text in overlapping(Selection(corpus.texts(), training)).items()
    }


class _HeldOut:
    """The held-out documents, including refused ones, and the hidden modules."""

    def __init__(self, corpus: Corpus, hidden: Sequence[str], config: IngestConfig, folder: Path, apply: Apply) -> None:
        self._corpus, self._hidden, self._config, self._folder, self._apply = corpus, hidden, config, folder, apply
        splits = np.array([document.split != "train" for document in corpus.documents], bool)
        self._numbers = np.flatnonzero(splits)

    def overlapping(self, training: Selection) -> dict[int, str]:
        """Map the index of each training text that overlaps a held-out text to the held-out text."""
        first = len(self._hidden)
        if not first + len(self._numbers):
            return {}
        texts = (Texts.of(self._hidden) if first else Texts([], [])) + self._corpus.texts()
        held_out = Selection(texts, np.concatenate([np.arange(first), self._numbers + first]))
        folder = self._folder / "held-out"
        pairs = find_overlaps(training, held_out, self._config.contamination, folder, apply=self._apply)
        others = {other: int(self._numbers[other - first]) for other in pairs.values() if other >= first}
        read = {number: item.record.text for number, item in self._corpus.read(others.values())}
        return {
            place: self._hidden[other] if other < first else cleaning.without_comments(read[others[other]])
            for place, other in pairs.items()
        }
