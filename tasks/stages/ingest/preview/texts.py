"""Preview the documents that `ingest` makes of texts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.core.records import Document, Refusal
from tasks.core.text.visible import excerpt
from tasks.io.sources import text
from tasks.stages.ingest.chunking import chunk_text
from tasks.stages.ingest.config import Corpora, CorpusSource, Folder, TextFile
from tasks.stages.ingest.preview.examples import SEED, shown
from tasks.stages.ingest.reading.documents import file_document, read_documents
from tasks.stages.ingest.reading.examples import python_modules
from tasks.stages.ingest.reading.sources import sample
from tasks.stages.ingest.screening.sensitive import rule_names

FILES = 60
"""Number of files of a folder whose texts are extracted, because a PDF takes seconds."""
SHOWN = 3
SHOWN_CHARS = 300
DOMAIN = "domain"
PIECE_CHARS: int = Corpora.model_fields["piece_chars"].default


def preview_texts(sources: Sequence[CorpusSource], piece_chars: int = PIECE_CHARS) -> dict[str, Any]:
    """Return the preview of the texts for `ratchet init`, without the modules of Python.

    It holds the number of texts, the number of those that were tried, the first kept and the first refused ones, the number of kept ones with
    their characters, and the refused ones by reason. `parts` is the number of modules, and of parts of at most `piece_chars` characters of
    the kept texts: with too few, the stage cannot hold any out.
    """
    kept: list[Document] = []
    refused: list[Refusal] = []
    reasons: Counter[str] = Counter()
    sensitive: Counter[str] = Counter()
    num_texts = num_tried = num_kept = num_chars = num_parts = 0
    for source in sources:
        num_texts += _num_untried(source)
        num_parts += len(python_modules(source)) if isinstance(source, Folder) else 0
        for record in _documents(source):
            num_tried += 1
            if isinstance(record, Refusal):
                reasons[record.reason] += 1
                refused += [record] if len(refused) < SHOWN else []
                continue
            num_kept += 1
            num_chars += len(record.text)
            num_parts += sum(1 for _ in chunk_text(record.text, piece_chars))
            kept += [record] if len(kept) < SHOWN else []
            sensitive.update(rule_names([record.text]))
    return {
        "texts": num_texts + num_tried,
        "tried": num_tried,
        "kept": num_kept,
        "chars": num_chars,
        "parts": num_parts,
        "refused": dict(reasons.most_common()),
        "sensitive": dict(sensitive.most_common()),
        "rows": [{"source": row.source, "text": excerpt(row.text, SHOWN_CHARS)} for row in kept],
        "refusals": [shown(refusal) for refusal in refused],
    }


def _num_untried(source: CorpusSource) -> int:
    return max(0, len(text.files(source.path)) - FILES) if isinstance(source, Folder) else 0


def _documents(source: CorpusSource) -> Iterator[Document | Refusal]:
    """Yield the documents of a table of texts, and of a sample of the files of a folder."""
    if isinstance(source, TextFile):
        yield from read_documents(source, DOMAIN)
    elif isinstance(source, Folder):
        for file in sample(text.files(source.path), FILES, SEED):
            yield file_document(source, DOMAIN, text.text_of(file, source.path, source.license))
