"""Cut long documents into chunks of limited length."""

from collections.abc import Iterator
from dataclasses import replace

from tasks.core.records import Document, content_id

CHUNK_MARK = " §"


def chunk_document(document: Document, limit: int) -> list[Document]:
    """Cut the document into documents of at most `limit` characters, numbered if there are several."""
    chunks = [chunk.strip("\n") for chunk in chunk_text(document.text, limit)]
    chunks = [chunk for chunk in chunks if chunk.strip()]
    return [_chunk(document, chunk, number, len(chunks)) for number, chunk in enumerate(chunks, 1)]


def ids_uncut(document: Document) -> tuple[str, str]:
    """Return the id that the document has in tables if it is one chunk, and the id of its text alone, which does not depend on its place."""
    text = document.text.strip("\n")
    return _chunk(document, text, 1, 1).id, content_id(text)


def chunk_text(text: str, limit: int) -> Iterator[str]:
    """Cut the text into chunks of at most `limit` characters: at a blank line, else at the end of a line, else anywhere."""
    while len(text) > limit:
        window = text[:limit]
        end = window.rfind("\n\n") + 2
        if end <= limit // 4:  # a blank line near the start would leave a tiny chunk
            end = window.rfind("\n") + 1 or limit
        yield text[:end]
        text = text[end:]
    yield text


def _chunk(document: Document, text: str, number: int, total: int) -> Document:
    source = document.source if total == 1 else f"{document.source}{CHUNK_MARK}{number}"
    return replace(
        document, id=content_id(document.domain, document.group, text, str(number)), text=text, source=source
    )
