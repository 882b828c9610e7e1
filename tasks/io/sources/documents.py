"""Text of a document: plain text, Markdown, HTML, LaTeX, Jupyter notebooks, e-mails, PDF and Word, with a note about parts that are not text."""

import email
import email.policy
import html
import json
import logging
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.io.sources.containers import archives
from tasks.io.sources.containers.encodings import read_text
from tasks.io.sources.formats import detection
from tasks.io.sources.record import UnreadableError, first_line

MAX_BYTES = 1 << 28
"""Largest number of bytes of all parts of a Word file, decompressed."""
COMMENT = re.compile(
    r"(?P<kept>\\begin\{(?P<code>verbatim\*?|lstlisting|minted)\}[\s\S]*?(?:\\end\{(?P=code)\}|\Z)|\\(?:url|href)\{[^{}\n]*\}|\\.)"
    r"|^[ \t]*%[^\r\n]*\r?\n?|%[^\r\n]*",
    re.MULTILINE,
)
"""Matches a comment, or in the group `kept` a part in which a percent sign begins no comment: code, an address, an escaped character."""
BODY = re.compile(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Extracted:
    """The text of a document."""

    text: str
    note: str = ""
    """The encoding, or the share of it that could be extracted, if there is something to report."""
    is_html: bool = False


def extract(path: Path) -> Extracted:
    """Return the text of a document. For HTML and Word, and for some e-mails, it is HTML. Raises UnreadableError if it has no text or cannot be read."""
    entry = archives.file_entry(path)
    named = detection.named_format(entry.name)
    format = named if named in ("text", "HTML", "LaTeX", "notebook", "e-mail") else detection.detect(entry).format
    try:
        if format == "PDF":
            with entry.on_disk() as file:
                return Extracted(*_pdf(file))
        if "Word" in (format, named):
            with entry.on_disk() as file:
                return Extracted(*_word(file), is_html=True)
        if format == "e-mail":
            with entry.on_disk() as file:
                return mail(file.read_bytes())
        text, encoding = read_text(entry)
        if format == "notebook":
            return Extracted(*notebook(text))
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    note = "" if encoding == "utf-8" else encoding
    return Extracted(latex_body(text) if format == "LaTeX" else text, note, format == "HTML")


def latex_body(source: str) -> str:
    """Return the body of a LaTeX document without comments, or the whole file if it has no body."""
    body = BODY.search(source)
    text = COMMENT.sub(lambda match: match["kept"] or "", body[1] if body else source)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def notebook(source: str) -> tuple[str, str]:
    """Return the cells of a Jupyter notebook as Markdown, with code in fences, and the number of outputs, which are left out.

    Raises UnreadableError if it is not a notebook of version 4 (the version since 2015), or has no text.
    """
    try:
        notebook = json.loads(source)
        cells = [
            (cell["cell_type"], _lines(cell["source"]), len(cell.get("outputs", ()))) for cell in notebook["cells"]
        ]
        language = _lines(notebook.get("metadata", {}).get("language_info", {}).get("name", "python"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"this is not a notebook of version 4: {first_line(error)}") from None
    parts = [f"```{language}\n{text}\n```" if kind == "code" else text for kind, text, _ in cells if text]
    if not parts:
        raise UnreadableError("none of its cells holds text")
    num_outputs = sum(number for *_, number in cells)
    return "\n\n".join(parts), f"without {num_outputs} outputs of cells" if num_outputs else ""


def mail(source: bytes) -> Extracted:
    """Return subject and text of an e-mail, and the number of its attachments. Addresses and other headers are left out.

    Raises UnreadableError if it has no text or cannot be read.
    """
    try:
        message = email.message_from_bytes(source, policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        text = "" if body is None else str(body.get_content())
        subject, num_attachments = str(message["subject"] or ""), sum(1 for _ in message.iter_attachments())
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UnreadableError(f"this is not a readable e-mail: {first_line(error)}") from None
    if body is None or not text.strip():
        raise UnreadableError(f"it holds no text ({num_attachments} attachments)")
    note = f"without {num_attachments} attachments" if num_attachments else ""
    if body.get_content_type() == "text/html":
        return Extracted(f"<h1>{html.escape(subject)}</h1>\n{text}", note, is_html=True)
    return Extracted(f"{subject}\n\n{text}".strip(), note)


def _lines(source: str | list[str]) -> str:
    """Return the text of a cell, which may be a list of lines."""
    return "".join(source).strip()


def _pdf(path: Path) -> tuple[str, str]:
    """Return the text of a PDF, and the share of its pages that have text."""
    try:
        import pypdf
        from pypdf.errors import PyPdfError
    except ImportError:
        raise UnreadableError('PDF needs the extra `documents`: pip install "ratchet-llm[documents]"') from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # pypdf logs every repair
    pages = []
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("it is encrypted; save it without a password")
        pages = [_page_text(page) for page in reader.pages]
    except (PyPdfError, OSError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"this is not a readable PDF: {first_line(error)}") from None
    filled = [page for page in pages if page.strip()]
    if not filled:
        raise UnreadableError(
            f"none of its {len(pages)} pages holds text; scanned pages need character recognition first"
        )
    return "\n\n".join(filled), "" if len(filled) == len(pages) else f"text on {len(filled)} of {len(pages)} pages"


def _page_text(page: Any) -> str:
    """Return the text of a page; empty if it is damaged, which the note counts."""
    try:
        return str(page.extract_text())
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, OSError):
        return ""


def _word(path: Path) -> tuple[str, str]:
    """Return a Word document as HTML, and the number of its images."""
    try:
        import mammoth
    except ImportError:
        raise UnreadableError('Word needs the extra `documents`: pip install "ratchet-llm[documents]"') from None
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnreadableError(f"this is not a readable Word document: {first_line(error)}") from None
    num_bytes = sum(info.file_size for info in members)
    num_images = sum(info.filename.startswith("word/media/") for info in members)
    if num_bytes > MAX_BYTES:
        raise UnreadableError(f"its parts take {num_bytes:,} bytes when decompressed; at most {MAX_BYTES:,} are read")
    try:
        with path.open("rb") as file:
            markup = str(mammoth.convert_to_html(file, convert_image=lambda _image: []).value)
    except Exception as error:  # mammoth has no error class: errors of XML, zip and its lookups pass through
        raise UnreadableError(f"this is not a readable Word document: {first_line(error)}") from None
    if not re.sub(r"<[^>]*>", "", markup).strip():
        raise UnreadableError(f"it holds no text ({num_images} images)")
    return markup, f"without {num_images} images" if num_images else ""
