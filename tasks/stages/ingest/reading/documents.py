"""Read the documents of a corpus: modules, files of a folder, columns of a table, descriptions in packages."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from tasks.core.records import Document, Refusal, content_id
from tasks.io.sources import descriptions, repository, text
from tasks.io.sources.package import Module
from tasks.io.sources.record import Broken
from tasks.io.sources.text import Read, Text, Unreadable
from tasks.stages.ingest import config
from tasks.stages.ingest.config import Folder, Package
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.examples import python_modules
from tasks.stages.ingest.reading.rows.conversations import is_decoded
from tasks.stages.ingest.reading.shared_lines import SharedLines
from tasks.stages.ingest.reading.sources import label, table_rows

SURROGATE = re.compile("[\ud800-\udfff]")
TORN = 1_000
"""Fewest characters for each undecoded one. A document with fewer is refused; a few are allowed, since a PDF may hold unmapped glyphs."""


def read_documents(
    source: config.CorpusSource, domain: str, read: Read = text.running_text
) -> Iterator[Document | Refusal]:
    """Yield the uncut documents of a source. `read` returns the running text of a file of a folder."""
    if isinstance(source, Package | Folder):
        yield from (
            Refusal(label(source), module.path, "broken characters", "it holds zeros, or bytes that are not text", "")
            if is_torn(module.text)
            else module_document(module, domain)
            for module in python_modules(source)
        )
    if isinstance(source, Folder):
        yield from _folder(source, domain, read)
    elif isinstance(source, config.TextFile):
        yield from _text_column(source, domain)
    elif isinstance(source, config.Repository):
        yield from _repository(source, domain)
    elif not isinstance(source, Package):
        for prose in _package_prose(source):
            yield _document(prose.text, domain, prose.name, prose.name, prose.license)


def is_torn(body: str) -> bool:
    """Return True for a text with null characters or lone surrogates, or with more than one undecoded character in `TORN`."""
    return "\0" in body or body.count("\ufffd") * TORN > len(body) or SURROGATE.search(body) is not None


def module_document(module: Module, domain: str = "domain") -> Document:
    """Return a module as a document, in the group of the functions that are mined from it."""
    identity = content_id("module", module.name, module.text)
    return Document(identity, module.text, domain, module.name, "train", module.origin, module.license)


def _folder(source: Folder, domain: str, read: Read) -> Iterator[Document | Refusal]:
    """Yield the files of a folder, each as its own group, without the lines that many of them share."""

    def files() -> Iterator[Text | Unreadable]:
        return text.folder(source.path, source.license, read)

    shared = SharedLines(lambda: ((PurePosixPath(file.name), file.text) for file in files() if isinstance(file, Text)))
    for file in files():
        if isinstance(file, Text):
            body = shared.remove(PurePosixPath(file.name), file.text)
            yield file_document(source, domain, replace(file, text=body))
        else:
            yield file_document(source, domain, file)


def file_document(source: Folder, domain: str, file: Text | Unreadable) -> Document | Refusal:
    """Return the document of a file of a folder, which is its own group."""
    if isinstance(file, Unreadable):
        return Refusal(label(source), file.name, file.reason, file.detail, "")
    note = f" ({file.note})" if file.note else ""
    where = f"{label(source)}: {file.name}{note}"
    return _document(file.text, domain, f"{source.path.name}/{file.name}", where, file.license)


def _repository(source: config.Repository, domain: str) -> Iterator[Document | Refusal]:
    """Yield the files of a repository whose licence is allowed, each as its own group."""
    for file in repository.files(source.path, source.revision, source.licenses):
        if isinstance(file, Text):
            group = f"{source.path.name}/{file.name}"
            yield _document(file.text, domain, group, f"{label(source)}: {file.name}", file.license)
        else:
            yield Refusal(label(source), file.name, file.reason, file.detail, "")


def _text_column(source: config.TextFile, domain: str) -> Iterator[Document | Refusal]:
    for name, row in table_rows(source):
        if isinstance(row, Broken):
            yield Refusal(name, row.where, row.reason, row.detail, row.record)
            continue
        body = row.values.get(source.text)
        if not isinstance(body, str) or not is_decoded(body):
            detail = f"the column {source.text!r} holds no readable text; the row has {', '.join(row.values)}"
            yield Refusal(name, row.where, "no text", detail, cleaning.beginning(row.values))
            continue
        group = row.where if source.group is None else cleaning.group_name(row.values.get(source.group))
        if group is None:
            detail = f"the column {source.group!r} is empty; the row has {', '.join(row.values)}"
            yield Refusal(name, row.where, "no group", detail, cleaning.beginning(row.values))
            continue
        yield _document(body, domain, f"{name}: {group}", f"{name}: {row.where}", source.license)


def _package_prose(source: config.Descriptions | config.Topics | config.Sklearn) -> Iterator[Text]:
    if isinstance(source, config.Descriptions):
        return descriptions.distributions(source.names)
    return descriptions.topics() if isinstance(source, config.Topics) else descriptions.sklearn()


def _document(body: str, domain: str, group: str, where: str, license: str) -> Document | Refusal:
    body = cleaning.clean(body)
    if not body:
        return Refusal(group, where, "empty text", "nothing is left of it", "")
    if is_torn(body):
        return Refusal(group, where, "broken characters", "it holds zeros, or bytes that are not text", "")
    return Document(content_id(domain, group, body), body, domain, group, "train", where, license)
