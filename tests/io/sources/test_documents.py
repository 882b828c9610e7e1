"""The text of documents, and what of them is not text."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from email.message import EmailMessage

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from tasks.io.sources import documents, folders
from tasks.io.sources.record import UnreadableError
from tasks.io.sources.text import Text, Unreadable, folder, running_text

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(*pages):
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject({
            NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        })  # fmt: skip
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def docx(*paragraphs, entities="", images=0):
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" '
            'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type='
            '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
            "</Relationships>",
        )
        archive.writestr(
            "word/document.xml", f'{entities}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
        )
        for number in range(images):
            archive.writestr(f"word/media/{number}.png", b"png")
    return data.getvalue()


def extract(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    document = documents.extract(tmp_path / name)
    return document.text, document.note


def test_a_pdf_with_the_share_of_its_pages(tmp_path):
    assert extract(tmp_path, "a.pdf", pdf("One page.", "Two pages.")) == ("One page.\n\nTwo pages.", "")
    assert extract(tmp_path, "b.pdf", pdf("One page.", "")) == ("One page.", "text on 1 of 2 pages")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("scan.pdf", pdf("", ""), "none of its 2 pages holds text"),
        ("torn.pdf", b"%PDF-1.7\n1 0 obj\n<<", "not a readable PDF"),
        ("empty.docx", docx(images=3), "holds no text \\(3 images\\)"),
        ("torn.docx", docx("a")[:300], "Word"),
        ("bytes.txt", b"\xff", "not UTF-8"),
    ],
)
def test_a_document_without_text_is_named(tmp_path, name, data, said):
    with pytest.raises(UnreadableError, match=said):
        extract(tmp_path, name, data)


def test_a_word_document(tmp_path):
    html, note = extract(tmp_path, "a.docx", docx("First &amp; last.", "Second.", images=1))
    assert html == "<p>First &amp; last.</p><p>Second.</p>"
    assert note == "without 1 images"


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_document_is_read_as_the_plain_one(tmp_path, ending, pack):
    for name, data in {"a.pdf": pdf("One page."), "a.docx": docx("First."), "a.md": b"# One"}.items():
        packed = extract(tmp_path, f"{name}.{ending}", pack(data))
        assert packed == extract(tmp_path, name, data)
        assert folders.role(tmp_path / f"{name}.{ending}") == "text"
    with pytest.raises(UnreadableError, match="the data end early or are damaged"):
        extract(tmp_path, f"torn.pdf.{ending}", pack(pdf("One page."))[:-20])


def test_an_xml_bomb_is_refused(tmp_path):
    bomb = '<!DOCTYPE b [<!ENTITY a "' + "a" * 1000 + '">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "&a;" * 10}">' for n in range(8)
    ) + "]>"  # fmt: skip
    with pytest.raises(UnreadableError, match="not a readable Word document"):
        extract(tmp_path, "bomb.docx", docx("&a7;", entities=bomb))


def test_a_zip_bomb_of_a_word_document_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_BYTES", 10_000)
    with pytest.raises(UnreadableError, match="bytes when decompressed; at most 10,000"):
        extract(tmp_path, "bomb.docx", docx("a" * 100_000))


def test_latex_without_comments_and_preamble(tmp_path):
    source = (
        "\\documentclass{article} % class\n\\begin{document}\n% a note\nIt is 5\\% of $x$. % so\n\\end{document}\nrest"
    )
    assert extract(tmp_path, "a.tex", source.encode()) == ("It is 5\\% of $x$.", "")


def test_percent_signs_of_code_and_addresses_are_no_comments(tmp_path):
    source = "So: % a note\n  % a line\n\\begin{verbatim}\nprint('%d' % 3)  % 4\n\\end{verbatim}\n\\url{http://a/%20b} and \\href{http://a/%20}{c} % d\nA\\\\% e"
    kept = "So:\n\\begin{verbatim}\nprint('%d' % 3)  % 4\n\\end{verbatim}\n\\url{http://a/%20b} and \\href{http://a/%20}{c}\nA\\\\"
    assert extract(tmp_path, "a.tex", source.encode()) == (kept, "")


def letter(subject="Größe", **parts):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "anna@example.org", "ben@example.org", subject
    message.set_content(parts.get("plain", "Wie groß ist es?\n"), charset="latin-1")
    if "html" in parts:
        message.add_alternative(parts["html"], subtype="html")
    if "attached" in parts:
        message.add_attachment(parts["attached"], maintype="application", subtype="pdf", filename="a.pdf")
    return message


def test_an_email_is_its_subject_and_text(tmp_path):
    data = letter(html="<p>Wie <b>groß</b>?</p>", attached=b"%PDF-" * 1000).as_bytes()
    assert extract(tmp_path, "a.eml", data) == ("Größe\n\nWie groß ist es?", "without 1 attachments")
    assert folders.role(tmp_path / "a.eml") == "text"
    alone = EmailMessage()
    alone["Subject"] = "<Rain>"
    alone.set_content("<html><p>Why does it <i>rain</i>?</p></html>", subtype="html")
    (tmp_path / "b.eml").write_bytes(alone.as_bytes())
    assert running_text(tmp_path / "b.eml") == ("<Rain>\n\nWhy does it rain?", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (letter(plain="").as_bytes(), "it holds no text"),
        (letter().as_bytes().replace(b"iso-8859-1", b"klingon-1"), "not a readable e-mail: unknown encoding"),
        (b"Subject: a\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA", "it holds no text"),
    ],
)
def test_an_email_without_text_is_refused(tmp_path, data, said):
    with pytest.raises(UnreadableError, match=said):
        extract(tmp_path, "a.eml", data)


def notebook(*cells, **metadata):
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def test_a_notebook_is_its_cells_without_outputs(tmp_path):
    title = {"cell_type": "markdown", "metadata": {}, "source": ["# Rain\n", "Why does it rain?"]}
    code = {"cell_type": "code", "metadata": {}, "source": "rain()\n", "outputs": [{"data": {"image/png": "AAAA"}}]}
    empty = {"cell_type": "code", "metadata": {}, "source": [], "outputs": []}
    text, note = extract(tmp_path, "a.ipynb", notebook(title, code, empty, language_info={"name": "julia"}))
    assert text == "# Rain\nWhy does it rain?\n\n```julia\nrain()\n```"
    assert note == "without 1 outputs of cells"
    assert folders.role(tmp_path / "a.ipynb") == "text"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (notebook(), "none of its cells holds text"),
        (notebook({"cell_type": "code", "source": 5}), "not a notebook of version 4"),
        (notebook({"cell_type": "code", "source": "a", "outputs": 5}), "not a notebook of version 4"),
        (notebook({"cell_type": "code", "source": "a"}, language_info=[]), "not a notebook of version 4"),
        (b'{"worksheets": []}', "not a notebook of version 4: 'cells'"),
        (notebook({"cell_type": "code", "source": "a"})[:-9], "not a notebook of version 4"),
        (b"[" * 100_000, "not a notebook of version 4"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, data, said):
    with pytest.raises(UnreadableError, match=said):
        extract(tmp_path, "a.ipynb", data)


def test_a_folder_of_documents(tmp_path):
    for name, data in {
        "a.md": b"# Title", "b.html": "<p>Größe über ältere Öfen</p>\n<p>Grüße für Übermut</p>".encode("latin-1"), "c.pdf": pdf("Page."),
        "d.docx": docx("Word."), "e.tex": b"LaTeX.", "f.pdf": pdf(""), "g.png": b"\x89PNG\r\n\x1a\n\x00",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    (tmp_path / "h.txt").symlink_to("/etc/hostname")
    files = {file.name: file for file in folder(tmp_path, "MIT")}
    texts = {name: file.text for name, file in files.items() if isinstance(file, Text)}
    assert texts == {
        "a.md": "# Title", "b.html": "Größe über ältere Öfen\n\nGrüße für Übermut", "c.pdf": "Page.", "d.docx": "Word.",
        "e.tex": "LaTeX.",
    }  # fmt: skip
    assert files["b.html"].note == "cp1252"
    reasons = {name: file.reason for name, file in files.items() if isinstance(file, Unreadable)}
    assert reasons == {"f.pdf": "unreadable file", "g.png": "no text", "h.txt": "a link out of the folder"}
