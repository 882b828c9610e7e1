"""Read the corpora as a stream: documents are screened and written to disk in batches."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import polars as pl

from tasks.core.records import Document, Refusal, SensitiveText
from tasks.core.stage import Run
from tasks.core.text.texts import Apply
from tasks.io import columns, tables
from tasks.io.sources import text
from tasks.io.sources.text import Read
from tasks.io.sources.text_cache import TextCache
from tasks.stages.ingest.config import Folder, IngestConfig
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.quarantine import Quarantine, Sourced
from tasks.stages.ingest.reading.documents import read_documents
from tasks.stages.ingest.reading.sources import label
from tasks.stages.ingest.screening.exclusion import check_documents, forgotten
from tasks.stages.ingest.screening.screen import screen_documents

DOCUMENTS, CHARS = 500, 1 << 22
"""Most documents and characters that are screened together."""


def extract_documents(config: IngestConfig, texts: TextCache, apply: Apply, run: Run) -> None:
    """Extract the texts of the documents in folders that are not in the cache yet, with a progress display."""
    sources = [source for some in config.corpora.by_domain.values() for source in some if isinstance(source, Folder)]
    documents = {file: None for source in sources for file in text.files(source.path)}
    pending = texts.pending(list(documents))
    if pending:
        for _ in run.track(texts.extract(pending, apply), total=len(pending), unit="document"):
            pass


def read_corpora(
    config: IngestConfig, quarantine: Quarantine, read: Read, folder: Path, rescued: Collection[str] = ()
) -> tuple[Corpus, pl.LazyFrame]:
    """Return the uncut documents of all corpora after screening, written below `folder`, and the secrets and personal data in them.

    Documents whose ids are `rescued` are not refused.
    """
    corpus = Corpus(folder / "uncut")
    paths: list[Path] = []
    for batch in _batches(_documents(config, quarantine, read)):
        check_documents(batch, config.exclude)
        screened = screen_documents(batch, config, rescued)
        corpus.add(quarantine.keep_others(screened.items, screened.refused))
        if screened.sensitive:
            paths.append(folder / f"sensitive-{len(paths):06d}.parquet")
            columns.frame(screened.sensitive, SensitiveText).write_parquet(paths[-1])
    return corpus, tables.scan(paths, SensitiveText)


def _documents(config: IngestConfig, quarantine: Quarantine, read: Read) -> Iterator[Sourced[Document]]:
    for domain, sources in config.corpora.by_domain.items():
        for source in sources:
            records = (
                forgotten(record, config.exclude) if isinstance(record, Refusal) else record
                for record in read_documents(source, domain, read)
            )
            yield from quarantine.receive(f"{domain}: {label(source)}", records)


def _batches(items: Iterable[Sourced[Document]]) -> Iterator[list[Sourced[Document]]]:
    held: list[Sourced[Document]] = []
    chars = 0
    for item in items:
        held.append(item)
        chars += len(item.record.text)
        if len(held) >= DOCUMENTS or chars >= CHARS:
            yield held
            held, chars = [], 0
    if held:
        yield held
